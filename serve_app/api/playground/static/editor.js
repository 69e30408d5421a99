// Edits the routes of a draft. The draft belongs to the caller; every change is told to it.

import { h, newId, show } from "./dom.js";
import { own, plural, score } from "./format.js";

const EFFORTS = ["", "none", "minimal", "low", "medium", "high", "xhigh", "max"];
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const nameOf = (model) => (typeof model === "string" ? model : model.model);
const effortOf = (model) => (typeof model === "string" ? "" : model.effort);
const modelOf = (name, effort) => (effort ? { model: name, effort } : name);

export class Editor {
  constructor(config, draft, onChange) {
    this.config = config;
    this.draft = draft;
    this.onChange = onChange;
    this.list = h("div", { class: "routes" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.modelList = h("datalist", { id: newId("models") },
      config.models.filter((model) => !model.model.endsWith("/*")).map((model) => h("option", { value: model.model })));
    this.chips = [];
    this.element = h("div", {}, this.problem, this.list, this.none(), this.threshold(), this.modelList);
    this.rebuild();
  }

  rebuild(openAt = -1) {
    this.chips = [];
    show(this.list, this.draft.routes.map((route, index) => this.route(route, index, index === openAt)));
    if (!this.draft.routes.length) show(this.list, h("p", { class: "hint" }, "There are no routes. Add one to see how it scores."));
    if (openAt >= 0) this.list.children[openAt].querySelector("input").select();
  }

  showScores(decision) {
    const scores = decision?.orchestrator?.scores ?? {};
    this.draft.routes.forEach((route, index) => {
      const value = own(scores, route.name);
      const chip = this.chips[index];
      chip.textContent = value === null ? "" : score(value);
      chip.classList.toggle("wins", decision?.route === route.name);
    });
  }

  showProblem(error) {
    this.problem.hidden = !error;
    this.problem.textContent = error ? error.message : "";
    for (const marked of this.element.querySelectorAll("[aria-invalid]")) marked.removeAttribute("aria-invalid");
    const place = /^routing_preferences\[(\d+)\](?:\.(\w+))?(?:\[(\d+)\])?/.exec(error?.param ?? "");
    if (!place) return;
    const fields = this.list.children[Number(place[1])]?.querySelectorAll(`[data-field="${place[2] ?? "name"}"]`) ?? [];
    (fields[Number(place[3] ?? 0)] ?? fields[0])?.setAttribute("aria-invalid", "true");
  }

  add() {
    const taken = new Set(this.draft.routes.map((route) => route.name));
    let name = "new route";
    for (let number = 2; taken.has(name); number++) name = `new route ${number}`;
    const model = this.config.default ?? this.config.models[0]?.model ?? "";
    this.draft.routes.push({ name, description: "what users ask for, in their words", models: [model] });
    this.rebuild(this.draft.routes.length - 1);
    this.onChange();
  }

  remove(index) {
    this.draft.routes.splice(index, 1);
    this.rebuild();
    const next = this.list.children[Math.min(index, this.draft.routes.length - 1)];
    (next?.querySelector("summary") ?? this.element).focus?.();
    this.onChange();
  }

  route(route, index, isOpen) {
    const title = h("span", { class: "route-name" }, route.name);
    const about = h("span", { class: "route-about" }, route.description);
    const chip = h("span", { class: "chip" });
    this.chips.push(chip);
    const configured = this.config.routes.find((other) => other.name === route.name);
    const body = h("div", { class: "route-body" },
      this.field("Name", "input", route.name, "name", (value) => { route.name = value; title.textContent = value; }),
      this.field("Description", "textarea", route.description, "description", (value) => { route.description = value; about.textContent = value; }),
      this.field("Examples, one a line", "textarea", (route.examples ?? []).join("\n"), "examples", (value) => { route.examples = lines(value); },
        "What users write. Three or more work best."),
      this.models(route),
      extras(route),
      h("div", { class: "route-end" },
        h("button", { type: "button", class: "quiet danger", onclick: () => this.remove(index) }, `Remove “${route.name}”`)));
    return h("details", { class: "route", open: isOpen },
      h("summary", {}, h("span", { class: "route-head" }, title, !configured && h("span", { class: "tag" }, "new"), about), chip),
      body);
  }

  field(label, tag, value, name, set, hint) {
    const id = newId(name);
    const field = h(tag, {
      id, value, "data-field": name, spellcheck: tag === "textarea" ? "true" : "false", autocomplete: "off",
      rows: tag === "textarea" ? Math.min(8, Math.max(2, Math.ceil(value.length / 60) + value.split("\n").length - 1)) : null,
      "aria-describedby": hint ? `${id}-hint` : null,
      oninput: () => { set(field.value); this.onChange(); },
    });
    return h("div", { class: "field" }, h("label", { for: id }, label), field,
      hint && h("span", { class: "hint", id: `${id}-hint` }, hint));
  }

  models(route) {
    const rows = h("ul", { class: "model-rows" });
    const rebuild = () => show(rows, route.models.map((model, place) => {
      const field = h("input", {
        value: nameOf(model), list: this.modelList.id, "aria-label": `Model ${place + 1}`, "data-field": "models", spellcheck: "false", autocomplete: "off",
        oninput: () => { route.models[place] = modelOf(field.value, effort.value); this.onChange(); },
      });
      const effort = h("select", {
        "aria-label": `Effort of model ${place + 1}`,
        onchange: () => { route.models[place] = modelOf(field.value, effort.value); this.onChange(); },
      }, EFFORTS.map((name) => h("option", { value: name, selected: name === effortOf(model) }, name || "effort")));
      return h("li", {}, field, effort,
        h("button", {
          type: "button", class: "quiet icon", "aria-label": `Remove model ${place + 1}`, disabled: route.models.length === 1,
          onclick: () => { route.models.splice(place, 1); rebuild(); this.onChange(); },
        }, "×"));
    }));
    rebuild();
    return h("fieldset", { class: "field" }, h("legend", {}, "Models, best first"), rows,
      h("button", { type: "button", class: "link", onclick: () => { route.models.push(this.config.default ?? ""); rebuild(); rows.lastChild.querySelector("input").select(); this.onChange(); } }, "Add a model"));
  }

  none() {
    const examples = this.draft.no_route_examples;
    const count = h("span", { class: "route-about" }, plural(examples.length, "example"));
    return h("details", { class: "route route-none" },
      h("summary", {}, h("span", { class: "route-head" }, h("span", { class: "route-name" }, "No route"), count)),
      h("div", { class: "route-body" }, this.field("Examples that match no route, one a line", "textarea", examples.join("\n"), "no_route_examples", (value) => {
        this.draft.no_route_examples = lines(value);
        count.textContent = plural(this.draft.no_route_examples.length, "example");
      }, "Greetings, thanks, and whatever no route is for.")));
  }

  threshold() {
    const id = newId("threshold");
    const shown = h("output", { for: id }, this.draft.min_confidence.toFixed(2));
    const slider = h("input", {
      id, type: "range", min: "0", max: "1", step: "0.01", value: String(this.draft.min_confidence),
      oninput: () => { this.draft.min_confidence = Number(slider.value); shown.textContent = this.draft.min_confidence.toFixed(2); this.onChange(); },
    });
    return h("div", { class: "field threshold" }, h("label", { for: id }, "Threshold (min_confidence)"), h("span", { class: "slider" }, slider, shown));
  }
}

function extras(route) {
  const words = [];
  if (route.selection_policy) words.push(`${route.selection_policy.prefer} first`);
  if (route.escalate) words.push("escalates");
  return words.length ? h("p", { class: "hint" }, `Also configured: ${words.join(", ")}.`) : null;
}
