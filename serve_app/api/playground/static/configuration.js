// The configuration: a picture, and the same as a table.

import { h, newId, show } from "./dom.js";
import { plural, priceOf } from "./format.js";
import { picture } from "./picture.js";

export function openConfiguration(root, config) {
  const place = h("div", { class: "picture-place" });
  let drawn = 0;
  const draw = () => {
    const width = Math.floor(place.clientWidth);
    if (width === drawn || width === 0) return;
    drawn = width;
    show(place, picture(config, width));
  };
  show(root,
    section("picture", "Who answers what", place,
      h("p", { class: "hint" }, "A solid line leads to the first model that is tried, thinner ones to those after it. Point at a name to see its ways.")),
    section("facts", "In use", facts(config)),
    config.rules.length > 0 && section("rules", "Rules, before the content is read", rules(config)),
    section("models", "Models", models(config)),
    section("route-list", "Routes", routes(config)));
  const observer = new ResizeObserver(draw);
  observer.observe(place);
  draw();
  return () => observer.disconnect();
}

function facts(config) {
  const { engine, thresholds, keeps } = config;
  const pairs = [
    ["Version", config.policy],
    ["Engine", engine.when_unsure ? `${engine.name}, close calls to ${engine.when_unsure}` : engine.name],
    ["Threshold", `${thresholds.min_confidence.toFixed(2)}${thresholds.min_margin > 0 ? `, lead ${thresholds.min_margin.toFixed(2)}` : ""}`],
    ["Default model", config.default ?? "none"],
    ["Named models", config.always_route ? "decided by content, too" : "stay as named"],
    ["This page keeps", `${plural(keeps.decisions, "decision")}, ${keeps.texts ? "with" : "without"} what users wrote`],
  ];
  return h("dl", { class: "pairs" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function rules(config) {
  return h("ol", { class: "plain" }, config.rules.map((rule) => h("li", {}, h("b", {}, rule.name), " → ",
    rule.route ? `route ${rule.route}` : h("span", { class: "mono" }, rule.model))));
}

function models(config) {
  return h("ul", { class: "entries" }, config.models.map((model) => h("li", {},
    h("span", { class: "mono strong wrap" }, model.model), model.model === config.default && h("span", { class: "tag" }, "default"),
    h("span", { class: "small muted" }, `${model.model.endsWith("/*") ? "every name" : priceOf(model.price)} · ${model.data_path}`,
      model.endpoints > 1 && ` · ${plural(model.endpoints, "endpoint")}`))));
}

function routes(config) {
  if (!config.routes.length) return h("p", { class: "hint" }, "There are no routes.");
  return h("ul", { class: "entries" }, config.routes.map((route) => h("li", {},
    h("b", {}, route.name), h("span", { class: "entry-about" }, route.description),
    h("span", { class: "small muted mono wrap" }, route.models.map((model) => (typeof model === "string" ? model : `${model.model} (${model.effort})`)).join(" → ")),
    route.examples && h("span", { class: "small muted" }, plural(route.examples.length, "example")))));
}

function section(area, title, ...content) {
  const id = newId("title");
  return h("section", { class: `card area-${area}`, "aria-labelledby": id }, h("header", { class: "card-head" }, h("h2", { id }, title)), content);
}
