// One decision: what it is, the scores, what the engine saw, the candidates and the headers.

import { bars } from "./bars.js";
import { h } from "./dom.js";
import { NO_ROUTE, milliseconds, priceOf, reasonText } from "./format.js";

const READ_AS = {
  text: "plain text", turns: "a conversation in plain text", messages: "a list of messages",
  chat: "a chat completion", responses: "a response", completions: "a legacy completion",
  embeddings: "embeddings", decisions: "typed questions",
};
const READ_AS_DIALECT = { messages: "a message of Anthropic's dialect" };

export function decisionView(result, configured, { onByContent }) {
  const decision = result.decision;
  const found = decision.orchestrator;
  return [
    headline(decision),
    notices(result, onByContent),
    bars(decision, configured?.decision),
    found && seen(found),
    candidates(decision),
    headers(result),
  ];
}

function headline(decision) {
  const target = decision.route ?? (decision.orchestrator ? NO_ROUTE : null);
  return h("div", { class: "headline" },
    h("p", { class: "verdict" },
      target !== null && h("span", { class: decision.route ? "verdict-route" : "verdict-none" }, target),
      h("span", { class: "verdict-to" },
        target !== null && [h("span", { class: "visually-hidden" }, "goes to"), h("span", { class: "arrow", "aria-hidden": "true" }, "→")],
        h("span", { class: "verdict-model" }, decision.model))),
    h("p", { class: "verdict-why" }, reasonText(decision.reason),
      ` Decided in ${milliseconds(decision.took_ms)}`,
      decision.orchestrator?.tier ? ` by the engine “${decision.orchestrator.tier}”.` : "."));
}

function notices(result, onByContent) {
  const decision = result.decision;
  const found = decision.orchestrator;
  const lines = [];
  if (result.by_content) lines.push(["The names in the body are ignored. ", h("button", { type: "button", class: "link", onclick: () => onByContent(false) }, "Obey them")]);
  else if (["explicit", "alias"].includes(decision.reason)) {
    lines.push([`The body names “${result.names}”, so its content is not read. `,
      h("button", { type: "button", class: "link", onclick: () => onByContent(true) }, "Decide by its content")]);
  }
  if (decision.rule) lines.push(`Rule “${decision.rule.name}”: ${decision.rule.matched.join(", ")}.`);
  if (found?.unavailable) lines.push(`No scores: ${found.unavailable}.`);
  if (found?.stand_in) lines.push(`The embedded engine stands in: ${found.stand_in}.`);
  if (found?.fell_back) lines.push(`The engine for close calls did not decide: ${found.fell_back}.`);
  if (found?.unreadable) lines.push("No route wins, because the bundled model does not read this script.");
  if (found && !found.seen.length) lines.push("The user wrote no words, so no route matches.");
  return lines.map((line) => h("p", { class: "notice-line" }, line));
}

function seen(found) {
  if (!found.seen.length) return null;
  return h("section", { class: "part" },
    h("h3", {}, "What the engine saw"),
    found.seen.map((turn) => h("blockquote", { class: "seen" },
      h("span", { class: "role" }, turn.role), h("span", { class: "seen-text" }, turn.content))));
}

function candidates(decision) {
  return h("section", { class: "part" },
    h("h3", {}, "Candidates, in this order"),
    h("ol", { class: "candidates" }, decision.candidates.map((candidate) => h("li", {},
      h("span", { class: "mono strong" }, candidate.model),
      candidate.effort && h("span", { class: "tag" }, `effort ${candidate.effort}`),
      h("span", { class: "candidate-why" }, candidate.why, " · ", priceOf(candidate.price))))));
}

let headersAreOpen = false;

function headers(result) {
  const details = h("details", { class: "part", open: headersAreOpen },
    h("summary", {}, "Headers of the answer"),
    h("dl", { class: "headers" }, result.headers.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  details.addEventListener("toggle", () => { headersAreOpen = details.open; });
  return details;
}

export function readAs(result, text) {
  const isBody = text.trimStart().startsWith("{");
  const name = (isBody && READ_AS_DIALECT[result.read_as]) || READ_AS[result.read_as] || result.read_as;
  return `Read as ${name}.`;
}
