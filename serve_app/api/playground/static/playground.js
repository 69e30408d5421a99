// The playground: a conversation, its decision, edited routes, and what the edit changes.

import { call } from "./api.js";
import { changesView, summaryOf } from "./changes.js";
import { decisionView, readAs } from "./decision.js";
import { announce, copy, debounce, h, newId, show } from "./dom.js";
import { Editor } from "./editor.js";
import { NO_ROUTE } from "./format.js";

const EXAMPLE = "Why does my loop never end?";
const DIALECTS = [["", "Detect"], ["chat", "OpenAI chat"], ["messages", "Anthropic messages"], ["responses", "OpenAI responses"]];

// What a person has typed outlives a change of the view, not a reload of the page.
const kept = { text: "", dialect: "", byContent: false, draft: null, policy: "" };

export function putIntoPlayground(text) {
  Object.assign(kept, { text, dialect: "", byContent: false });
  location.hash = "#playground";
}

function draftOf(config) {
  return {
    routes: structuredClone(config.routes),
    no_route_examples: [...config.no_route_examples],
    min_confidence: config.thresholds.min_confidence,
  };
}

class Playground {
  constructor(root, config) {
    this.config = config;
    this.isAuto = config.engine.is_local;
    this.running = new AbortController();
    this.comparing = new AbortController();
    this.configured = { key: null, result: null };
    if (!kept.draft || kept.policy !== config.policy) Object.assign(kept, { draft: draftOf(config), policy: config.policy });
    this.decideSoon = debounce(250, () => this.decide());
    this.compareSoon = debounce(700, () => this.compare());
    this.build(root);
    this.showResult({ decision: null, yaml: "" }, null);
    this.changed({ isEdit: true });
  }

  build(root) {
    this.decision = h("div", { class: "decision" });
    this.changes = h("div", { class: "changes" });
    this.yaml = h("pre", { class: "yaml", tabindex: "0", "aria-label": "Routes as YAML" });
    this.badge = h("span", { class: "tag edited", hidden: true }, "edited");
    this.reset = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.resetDraft() }, "Reset");
    this.editorPlace = h("div");
    show(root,
      card("input", "Conversation", null, this.inputs()),
      card("result", "Decision", null, this.decision),
      card("routes", ["Routes", this.badge], [this.reset, h("button", { type: "button", onclick: () => this.editor.add() }, "Add a route")], this.editorPlace),
      card("changes", "What the edit changes", this.compareButton(), this.changes),
      card("yaml", "YAML", h("button", { type: "button", class: "copy", onclick: () => this.copyYaml() }, "Copy"), this.yaml));
    this.buildEditor();
  }

  buildEditor() {
    this.editor = new Editor(this.config, kept.draft, () => this.changed({ isEdit: true }));
    show(this.editorPlace, this.editor.element);
  }

  inputs() {
    const id = newId("conversation");
    this.text = h("textarea", {
      id, rows: "7", spellcheck: "false", value: kept.text, "aria-describedby": `${id}-hint`,
      placeholder: `${EXAMPLE}\n\nOr a whole request body: {"messages": [ … ]}`,
      oninput: () => { kept.text = this.text.value; kept.byContent = false; this.changed({}); },
      onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.decide(true); } },
    });
    this.hint = h("span", { class: "hint", id: `${id}-hint` }, "Plain text, lines that begin with “User:” and “Assistant:”, a list of messages, or a request body.");
    const dialect = h("select", {
      id: newId("dialect"),
      onchange: () => { kept.dialect = dialect.value; this.changed({}); },
    }, DIALECTS.map(([value, words]) => h("option", { value, selected: value === kept.dialect }, words)));
    return [
      h("label", { for: id, class: "visually-hidden" }, "Conversation or request body"), this.text, this.hint,
      h("div", { class: "input-end" },
        h("label", { class: "inline" }, "Dialect of a body ", dialect),
        h("span", { class: "spring" }),
        h("button", { type: "button", class: "quiet", onclick: () => this.fillIn(EXAMPLE) }, "Example"),
        h("button", { type: "button", class: "primary", onclick: () => this.decide(true) }, "Decide")),
      !this.isAuto && h("p", { class: "notice-line" }, "Each decision asks a model, which may cost money. Press Decide, or Ctrl and Enter."),
    ];
  }

  compareButton() {
    if (this.isAuto) return null;
    return h("button", { type: "button", onclick: () => this.compare() }, "Compare");
  }

  fillIn(text) {
    this.text.value = text;
    Object.assign(kept, { text, byContent: false });
    this.changed({});
    this.text.focus();
  }

  isEdited() {
    return JSON.stringify(cleaned(kept.draft)) !== JSON.stringify(cleaned(draftOf(this.config)));
  }

  edit() {
    if (!this.isEdited()) return null;
    const { routes, no_route_examples, min_confidence } = cleaned(kept.draft);
    const limit = min_confidence === this.config.thresholds.min_confidence ? null : min_confidence;
    return { routing_preferences: routes, no_route_examples, min_confidence: limit };
  }

  resetDraft() {
    kept.draft = draftOf(this.config);
    this.buildEditor();
    this.changed({ isEdit: true });
    announce("The routes are as configured again.");
  }

  changed({ isEdit = false }) {
    const isEdited = this.isEdited();
    this.badge.hidden = this.reset.hidden = !isEdited;
    if (this.isAuto || isEdit) this.decideSoon();
    if (!isEdit) return;
    this.comparing.abort();
    if (!isEdited) {
      this.compareSoon.cancel();
      show(this.changes, h("p", { class: "hint" }, this.config.keeps.texts
        ? "Edit a route to see which of the last 100 decisions would change."
        : "This gateway does not keep texts, so it cannot decide old conversations again; set ui.keep_texts to allow that."));
    } else if (this.isAuto) this.compareSoon();
  }

  async ask(input, edit, signal) {
    const body = { input, dialect: kept.dialect || null, by_content: kept.byContent, edit };
    const result = await call("decide", { body, signal });
    return { ...result, by_content: kept.byContent };
  }

  // Without being asked, an engine that may cost money only gets the routes checked, and the YAML written.
  async decide(isAsked = this.isAuto) {
    this.decideSoon.cancel();
    this.running.abort();
    const { signal } = (this.running = new AbortController());
    this.decision.setAttribute("aria-busy", "true");
    try {
      const edit = this.edit();
      if (!isAsked) {
        this.showYaml(await this.ask("", edit, signal));
      } else {
        const key = JSON.stringify([kept.text, kept.dialect, kept.byContent]);
        if (this.configured.key !== key) this.configured = { key, result: await this.ask(kept.text, null, signal) };
        const configured = this.configured.result;
        const result = edit === null ? configured : await this.ask(kept.text, edit, signal);
        this.showResult(result, edit === null ? null : configured);
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      this.showError(error);
    }
    this.decision.removeAttribute("aria-busy");
  }

  showYaml(result) {
    this.editor.showProblem(null);
    this.yaml.textContent = result.yaml;
  }

  showResult(result, configured) {
    this.showYaml(result);
    this.editor.showScores(result.decision);
    if (!result.decision) {
      show(this.decision, h("p", { class: "empty" }, "Write or paste a conversation to see which model would answer, and why."));
      return;
    }
    this.hint.textContent = readAs(result, kept.text);
    show(this.decision, decisionView(result, configured, { onByContent: (choice) => { kept.byContent = choice; this.decide(true); } }));
    const { route, model, orchestrator } = result.decision;
    announce(`${route ?? (orchestrator ? NO_ROUTE : "decided")}: ${model}`);
  }

  showError(error) {
    const isEdit = /^(routing_preferences|no_route_examples|min_)/.test(error.param ?? "");
    this.editor.showProblem(isEdit ? error : null);
    if (isEdit) return;
    show(this.decision, h("p", { class: "problem", role: "alert" }, error.message));
  }

  async compare() {
    const edit = this.edit();
    if (edit === null) return;
    this.comparing.abort();
    const { signal } = (this.comparing = new AbortController());
    this.changes.setAttribute("aria-busy", "true");
    if (!this.changes.querySelector(".summary")) show(this.changes, h("p", { class: "hint" }, "Deciding the last decisions again…"));
    try {
      const compared = await call("compare", { body: { edit }, signal });
      show(this.changes, changesView(compared, this.config));
      announce(summaryOf(compared));
    } catch (error) {
      if (error.name === "AbortError") return;
      const isEdit = error.param !== null;
      show(this.changes, h("p", { class: "hint" }, isEdit ? "The routes have a fault; correct it to compare." : error.message));
    }
    this.changes.removeAttribute("aria-busy");
  }

  async copyYaml() {
    const button = document.querySelector(".copy");
    try {
      await copy(this.yaml.textContent);
      button.textContent = "Copied";
      announce("The YAML is on the clipboard.");
    } catch {
      button.textContent = "Select and copy by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  close() {
    this.decideSoon.cancel();
    this.compareSoon.cancel();
    this.running.abort();
    this.comparing.abort();
  }
}

function cleaned(draft) {
  return {
    ...draft,
    routes: draft.routes.map((route) => {
      const { examples, ...rest } = route;
      return examples?.length ? { ...rest, examples } : rest;
    }).map(sorted),
  };
}

function sorted(route) {
  return Object.fromEntries(Object.entries(route).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function card(area, title, actions, ...content) {
  const id = newId("title");
  return h("section", { class: `card area-${area}`, "aria-labelledby": id },
    h("header", { class: "card-head" }, h("h2", { id }, title), actions && h("div", { class: "actions" }, actions)),
    content);
}

export function openPlayground(root, config) {
  const playground = new Playground(root, config);
  return () => playground.close();
}
