// What edited routes change about the last decisions: counts by route, and each one that moves.

import { h } from "./dom.js";
import { NO_ROUTE, plural, score } from "./format.js";

const shownRoute = (route) => (route === null
  ? h("span", { class: "none-name" }, NO_ROUTE) : h("span", { class: "route-tag" }, route));

export function summaryOf(compared) {
  if (!compared.decided) return "None of the last decisions can be decided again.";
  return `${compared.changed || "None"} of the last ${plural(compared.decided, "decision")} would change.`;
}

export function changesView(compared, config) {
  const changed = compared.rows.filter((row) => row.changed);
  return [
    h("p", { class: "summary" },
      h("b", { class: compared.changed ? "big changed" : "big" }, String(compared.changed)),
      h("span", {}, ` of ${plural(compared.decided, "decision")} would change.`)),
    !compared.decided && h("p", { class: "hint" }, config.keeps.texts
      ? "Only requests whose content was read can be decided again. Send some that name no model."
      : "This gateway does not keep texts; set ui.keep_texts to decide old conversations again."),
    !compared.is_complete && h("p", { class: "notice-line" }, "The orchestrator was busy with requests, so some are left out."),
    compared.decided > 0 && counts(compared.routes),
    changed.length > 0 && h("ul", { class: "moves", tabindex: "0", "aria-label": "Decisions that change" }, alike(changed).map(move)),
  ];
}

function counts(routes) {
  const sorted = [...routes].sort((a, b) => (a.route === null) - (b.route === null) || b.after - a.after);
  const most = Math.max(1, ...sorted.flatMap((entry) => [entry.before, entry.after]));
  return h("table", { class: "counts" },
    h("caption", { class: "visually-hidden" }, "Decisions by route, before and after"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Route"), h("td", { class: "pair" }),
      ["Before", "After", "Change"].map((title) => h("th", { scope: "col", class: "number" }, title)))),
    h("tbody", {}, sorted.map((entry) => {
      const moved = entry.after - entry.before;
      const width = (count) => `${Math.round((100 * count) / most)}%`;
      return h("tr", {},
        h("th", { scope: "row" }, shownRoute(entry.route)),
        h("td", { class: "pair", "aria-hidden": "true" },
          h("span", { class: "mini was", style: { width: width(entry.before) } }), h("span", { class: "mini", style: { width: width(entry.after) } })),
        h("td", { class: "number" }, String(entry.before)),
        h("td", { class: "number" }, String(entry.after)),
        h("td", { class: `number${moved ? " changed" : " still"}` }, moved > 0 ? `+${moved}` : moved < 0 ? `−${-moved}` : "–"));
    })));
}

// Equal texts that move equally are one line.
function alike(rows) {
  const groups = new Map();
  for (const row of rows) {
    const key = JSON.stringify([row.text, row.before.route, row.before.model, row.after.route, row.after.model]);
    const group = groups.get(key);
    if (group) group.count += 1;
    else groups.set(key, { row, count: 1 });
  }
  return [...groups.values()];
}

function move({ row, count }) {
  return h("li", {},
    h("span", { class: "move-text" }, row.text, count > 1 && h("span", { class: "times" }, ` ×${count}`)),
    h("span", { class: "move-way" },
      side(row.before), h("span", { class: "arrow", "aria-hidden": "true" }, "→"), h("span", { class: "visually-hidden" }, "becomes"), side(row.after)));
}

function side(decision) {
  return h("span", { class: "side" }, shownRoute(decision.route),
    h("span", { class: "mono small" }, decision.model ?? "–"),
    h("span", { class: "small muted" }, score(decision.confidence)));
}
