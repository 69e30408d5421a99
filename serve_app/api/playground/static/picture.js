// The configuration as a picture: names and routes on the left, models and providers on the right.

import { s } from "./dom.js";

const ROW = 40;
const BOX = 30;
const HEAD = 28;
const CHARACTER = 7.1;
const NARROW = 640;

// Columns of nodes and the lines between them, from what the configuration says.
export function graphOf(config) {
  const nameOf = (alias) => ({ id: `alias:${alias.name}`, text: alias.name, words: `alias ${alias.name}`, isDirect: alias.model !== null });
  const open = config.aliases.filter((alias) => alias.model === null);
  const routes = config.routes.map((route) => ({ id: `route:${route.name}`, text: route.name, words: `route ${route.name}`, about: route.description }));
  const names = [
    ...(routes.length ? [{ id: "auto", text: "auto", words: "auto, the choice by content", isStrong: true }] : []),
    ...open.map(nameOf), ...config.aliases.filter((alias) => alias.model !== null).map(nameOf),
  ];
  if (routes.length && config.default) routes.push({ id: "none", text: "no route", words: "no route matches", isNone: true });
  const models = orderedModels(config).map((model) => ({
    id: `model:${model}`, text: model, words: `model ${model}${model === config.default ? ", the default" : ""}`, isStrong: model === config.default,
  }));
  const providers = [...new Set(models.map((model) => providerOf(model.text)))].map((name) => ({ id: `provider:${name}`, text: name, words: `provider ${name}` }));
  const lines = [];
  for (const alias of config.aliases) if (alias.model) lines.push([`alias:${alias.name}`, `model:${alias.model}`, 0]);
  for (const from of [...open.map((alias) => `alias:${alias.name}`), ...(routes.length ? ["auto"] : [])]) {
    for (const route of routes) lines.push([from, route.id, 1]);
  }
  for (const route of config.routes) route.models.forEach((model, place) => lines.push([`route:${route.name}`, `model:${modelName(model)}`, place]));
  if (routes.some((route) => route.isNone)) lines.push(["none", `model:${config.default}`, 0]);
  for (const model of models) lines.push([model.id, `provider:${providerOf(model.text)}`, 1]);
  return { columns: [["Names", names], ["Routes", routes], ["Models", models], ["Providers", providers]], lines };
}

const providerOf = (model) => model.split("/")[0];
const modelName = (model) => (typeof model === "string" ? model : model.model);

// Models in the order in which routes name them, those of one provider together.
function orderedModels(config) {
  const used = [...config.routes.flatMap((route) => route.models.map(modelName)), config.default, ...config.aliases.map((alias) => alias.model)];
  const all = [...new Set([...used.filter(Boolean), ...config.models.map((model) => model.model)])];
  const order = [...new Set(all.map(providerOf))];
  return order.flatMap((provider) => all.filter((model) => providerOf(model) === provider));
}

export function picture(config, width) {
  const graph = graphOf(config);
  const isNarrow = width < NARROW;
  const columns = isNarrow ? merged(graph) : graph.columns.filter(([, nodes]) => nodes.length);
  const gap = isNarrow ? 44 : Math.max(36, width * 0.07);
  const boxWidth = Math.floor((width - 2 - gap * (columns.length - 1)) / columns.length);
  const places = new Map();
  let height = 0;
  const boxes = columns.map(([title, nodes], column) => {
    const x = 1 + column * (boxWidth + gap);
    const rows = rowsOf(nodes, columns, column, isNarrow, places);
    const drawn = nodes.map((node, at) => {
      const y = HEAD + rows[at] * ROW;
      height = Math.max(height, y + ROW);
      if (node.isTitle) return s("text", { x, y: y + 20, class: "column-title" }, node.text);
      places.set(node.id, { x, y: y + 1, right: x + boxWidth, middle: y + 1 + BOX / 2, column, row: rows[at] });
      return nodeBox(node, x, y + 1, boxWidth, graph);
    });
    return [title && s("text", { x, y: 16, class: "column-title" }, title), s("g", { role: "list", "aria-label": title ?? "Names and routes" }, drawn)];
  });
  const routesRight = isNarrow || columns.length < 4 ? null : 1 + boxWidth + gap + boxWidth;
  const lines = graph.lines.filter(([from, to]) => places.has(from) && places.has(to) && places.get(from).column < places.get(to).column)
    .map(([from, to, rank]) => s("path", { class: `line rank-${Math.min(rank, 2)}`, d: curve(places.get(from), places.get(to), routesRight), "data-from": from, "data-to": to }));
  const drawing = s("svg", {
    class: "picture", width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": "Names, routes, models and providers; arrow keys move between them",
  }, s("g", { class: "lines", "aria-hidden": "true" }, lines), boxes);
  makeAlive(drawing, graph, places);
  return drawing;
}

// On a phone there are two columns: what clients say, and who answers.
function merged(graph) {
  const [[, names], [, routes], [, models], [, providers]] = graph.columns;
  const left = [...(names.length ? [title("Names"), ...names] : []), ...(routes.length ? [title("Routes"), ...routes] : [])];
  const right = providers.flatMap((provider) => [
    { ...provider, isTitle: true }, ...models.filter((model) => model.text.startsWith(`${provider.text}/`)).map((model) => ({ ...model, text: model.text.slice(provider.text.length + 1) })),
  ]);
  return [[null, left], [null, right]].filter(([, nodes]) => nodes.length);
}

const title = (text) => ({ id: `title:${text}`, text, isTitle: true });

// The row of each node. Aliases of models come below the routes, so that their lines pass no route;
// a provider comes in the middle of its models.
function rowsOf(nodes, columns, column, isNarrow, places) {
  if (isNarrow) return nodes.map((_, at) => at);
  if (columns[column][0] === "Names") {
    const first = nodes.filter((node) => !node.isDirect).length;
    const below = columns[1][0] === "Routes" ? Math.max(first, columns[1][1].length) : first;
    return nodes.map((node, at) => (node.isDirect ? below + at - first : at));
  }
  if (columns[column][0] !== "Providers") return nodes.map((_, at) => at);
  let free = 0;
  return nodes.map((provider) => {
    const own = [...places].filter(([id]) => id.startsWith(`model:${provider.text}/`)).map(([, place]) => place.row);
    const middle = own.reduce((sum, row) => sum + row, 0) / own.length;
    const row = Math.max(free, middle);
    free = row + 1;
    return row;
  });
}

function curve(from, to, routesRight) {
  const isPast = routesRight !== null && from.column === 0 && to.column === 2;
  const start = isPast ? routesRight : from.right;
  const bend = (to.x - start) / 2;
  return `M${from.right} ${from.middle}H${start}C${start + bend} ${from.middle} ${to.x - bend} ${to.middle} ${to.x} ${to.middle}`;
}

function nodeBox(node, x, y, width, graph) {
  const room = Math.max(3, Math.floor((width - 20) / CHARACTER));
  const characters = [...node.text];
  const text = characters.length <= room ? node.text : `${characters.slice(0, room - 1).join("")}…`;
  const to = graph.lines.filter(([from]) => from === node.id).map(([, id]) => (id === "none" ? "no route" : id.slice(id.indexOf(":") + 1)));
  const words = `${node.words}${to.length ? `, to ${to.join(", ")}` : ""}`;
  return s("g", {
    class: `node${node.isStrong ? " strong" : ""}${node.isNone ? " is-none" : ""}`, role: "listitem", tabindex: "-1", "aria-label": words, "data-id": node.id,
  },
  s("title", {}, node.about ? `${node.text}: ${node.about}` : node.text),
  s("rect", { x, y, width, height: BOX, rx: 7 }),
  s("text", { x: x + 10, y: y + BOX / 2 + 4.5 }, text));
}

// Shows what belongs to the node under the pointer or with the focus; arrow keys move the focus.
function makeAlive(drawing, graph, places) {
  const nodes = [...drawing.querySelectorAll(".node")];
  if (nodes.length) nodes[0].setAttribute("tabindex", "0");
  const light = (id) => {
    const near = id === null ? null : connected(graph.lines, id);
    drawing.classList.toggle("lit", near !== null);
    for (const node of nodes) node.classList.toggle("on", near?.has(node.dataset.id) ?? false);
    for (const line of drawing.querySelectorAll(".line")) {
      line.classList.toggle("on", (near?.has(line.dataset.from) && near?.has(line.dataset.to)) ?? false);
    }
  };
  for (const node of nodes) {
    node.addEventListener("pointerenter", () => light(node.dataset.id));
    node.addEventListener("pointerleave", () => light(document.activeElement?.dataset?.id ?? null));
    node.addEventListener("focus", () => light(node.dataset.id));
    node.addEventListener("blur", () => light(null));
  }
  drawing.addEventListener("keydown", (event) => {
    const at = places.get(document.activeElement?.dataset?.id);
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (!at || !step) return;
    event.preventDefault();
    const target = neighbour(nodes, places, at, step);
    if (!target) return;
    for (const node of nodes) node.setAttribute("tabindex", node === target ? "0" : "-1");
    target.focus();
  });
}

function neighbour(nodes, places, at, [columns, rows]) {
  const spots = nodes.map((node) => ({ node, ...places.get(node.dataset.id) }));
  if (rows) {
    const same = spots.filter((spot) => spot.column === at.column && (spot.y - at.y) * rows > 0);
    same.sort((a, b) => (a.y - b.y) * rows);
    return same[0]?.node;
  }
  const there = spots.filter((spot) => spot.column === at.column + columns);
  there.sort((a, b) => Math.abs(a.y - at.y) - Math.abs(b.y - at.y));
  return there[0]?.node;
}

function connected(lines, id) {
  const near = new Set([id]);
  for (const [from, to] of [[0, 1], [1, 0]]) {
    const queue = [id];
    while (queue.length) {
      const now = queue.pop();
      for (const line of lines) {
        if (line[from] === now && !(near.has(line[to]) && line[to] !== id)) {
          near.add(line[to]);
          queue.push(line[to]);
        }
      }
    }
  }
  return near;
}
