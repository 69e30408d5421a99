// Calls of the page to its own gateway. A client key stays in this tab, and goes out as a header.

const KEY = "fingerpost-key";
const NEEDS_KEY = 401;

export class CallError extends Error {
  constructor(status, error) {
    super(error.message ?? `the gateway answered with status ${status}`);
    this.status = status;
    this.code = error.code ?? "";
    this.param = error.param ?? null;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const setKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

let askForKey = () => {};
export const whenKeyIsNeeded = (action) => { askForKey = action; };

async function request(path, { body, signal } = {}) {
  const headers = { "x-fingerpost-page": "1" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers["x-fingerpost-key"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(`api/${path}`, {
    method: body === undefined ? "GET" : "POST",
    body: body === undefined ? undefined : JSON.stringify(body),
    headers,
    signal,
    cache: "no-store",
    credentials: "same-origin",
    redirect: "error",
  });
  if (answer.ok) return answer;
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // not from the gateway itself, such as a proxy's error page
  }
  const fault = new CallError(answer.status, error);
  if (answer.status === NEEDS_KEY) askForKey(key !== null);
  throw fault;
}

export async function call(path, options) {
  return (await request(path, options)).json();
}

export async function* events(path, signal) {
  const answer = await request(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (data.length) yield JSON.parse(data.join("\n"));
    }
  }
}
