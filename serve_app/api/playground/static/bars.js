// Every score as a bar, on one scale from 0 to 1, with the threshold that the best one has to reach.

import { h } from "./dom.js";
import { NO_ROUTE, change, own, score } from "./format.js";

const percent = (value) => `${(100 * Math.min(1, Math.max(0, value))).toFixed(2)}%`;

function row(name, value, { wins, isNone, threshold, before }) {
  const moved = before === undefined || before === null ? null : value - before;
  const words = [
    score(value),
    wins ? "wins" : "",
    threshold !== null && !isNone ? (value >= threshold ? "above the threshold" : "below the threshold") : "",
    moved !== null && Math.abs(moved) >= 0.0005 ? `${score(before)} as configured` : "",
  ].filter(Boolean).join(", ");
  return h("li", { class: `bar${wins ? " wins" : ""}${isNone ? " is-none" : ""}` },
    h("span", { class: "bar-name", title: name }, name),
    h("span", {
      class: "track", role: "meter", "aria-label": name, "aria-valuemin": "0", "aria-valuemax": "1",
      "aria-valuenow": value.toFixed(4), "aria-valuetext": words,
    },
    h("span", { class: "fill", style: { width: percent(value) } }),
    moved !== null && Math.abs(moved) >= 0.0005
      && h("span", { class: "before", style: { left: percent(before) }, title: `${score(before)} as configured` })),
    h("span", { class: "bar-value" },
      h("b", {}, score(value)),
      moved !== null && h("span", { class: "moved" }, Math.abs(moved) < 0.0005 ? "" : change(moved))));
}

export function bars(decision, configured) {
  const found = decision.orchestrator;
  if (!found?.scores) return null;
  const limits = found.thresholds;
  const before = configured?.orchestrator?.scores ? configured.orchestrator : null;
  const threshold = limits.min_confidence;
  const names = Object.keys(found.scores);
  const rows = names.map((name) => row(name, found.scores[name], {
    wins: name === decision.route, isNone: false, threshold,
    before: before ? own(before.scores, name) : undefined,
  }));
  if (found.none !== null) {
    rows.push(row(NO_ROUTE, found.none, {
      wins: decision.route === null, isNone: true, threshold, before: before?.none,
    }));
  }
  return h("div", { class: `bars${before ? " compared" : ""}` },
    h("div", { class: "axis", "aria-hidden": "true" },
      h("span", { class: "axis-line" },
        h("span", { class: `axis-mark${threshold > 0.7 ? " at-end" : ""}`, style: { left: percent(threshold) } },
          h("span", {}, `threshold ${threshold.toFixed(2)}`)))),
    h("ul", { class: "bar-list", "aria-label": "Scores", style: { "--threshold": percent(threshold) } }, rows),
    h("p", { class: "hint" }, rule(found, limits), before && " A tick marks the score as configured."));
}

function rule(found, limits) {
  const none = found.none === null ? "" : `, and more than “${NO_ROUTE}”`;
  const lead = limits.min_margin > 0 ? `, and a lead of ${limits.min_margin.toFixed(2)} over the second` : "";
  return `To win, a route needs ${limits.min_confidence.toFixed(2)}${none}${lead}.`;
}
