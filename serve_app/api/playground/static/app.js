// The frame of the page: views by their address, the theme, and the form that asks for a client key.

import { CallError, call, forgetKey, hasKey, setKey, whenKeyIsNeeded } from "./api.js";
import { announce, h, newId, show } from "./dom.js";
import { clock } from "./format.js";
import { openConfiguration } from "./configuration.js";
import { openLive } from "./live.js";
import { openPlayground } from "./playground.js";

const VIEWS = {
  playground: { title: "Playground", open: openPlayground },
  live: { title: "Live", open: openLive },
  configuration: { title: "Configuration", open: openConfiguration },
};
const THEMES = ["system", "light", "dark"];
const THEME_KEY = "fingerpost-theme";

const main = document.getElementById("main");
let close = () => {};
let config = null;
let opened = 0;

function viewName() {
  const name = location.hash.slice(1);
  return name in VIEWS ? name : "playground";
}

async function open({ moveFocus = false } = {}) {
  const mine = ++opened;
  close();
  close = () => {};
  const name = viewName();
  const view = VIEWS[name];
  document.title = `${view.title} · Fingerpost`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const fresh = await call("config");
    if (mine !== opened) return;
    config = fresh;
  } catch (error) {
    if (mine === opened && !(error instanceof CallError && error.status === 401)) fail(error);
    return;
  }
  document.getElementById("sign-out").hidden = !hasKey();
  describe();
  const heading = h("h1", { class: "visually-hidden", tabindex: "-1" }, view.title);
  const body = h("div", { class: `view view-${name}` });
  show(main, heading, body);
  close = view.open(body, config) ?? (() => {});
  if (moveFocus) heading.focus({ preventScroll: true });
}

function fail(error) {
  const again = h("button", { type: "button", onclick: () => open() }, "Try again");
  show(main, h("section", { class: "card notice", role: "alert" },
    h("h1", {}, "The page cannot reach its gateway"), h("p", {}, error.message), again));
}

function describe() {
  const since = clock(config.started_at);
  show(document.getElementById("foot"),
    `Configuration ${config.policy}, ingress replica ${config.replica}, up since ${since}. `,
    "Where several ingress replicas run, each shows the requests that it answered itself.");
}

function askForKey(wasRefused) {
  opened++;
  close();
  close = () => {};
  forgetKey();
  document.getElementById("sign-out").hidden = true;
  const id = newId("key");
  const field = h("input", {
    id, type: "password", autocomplete: "off", required: true, spellcheck: "false",
    "aria-describedby": `${id}-why`, "aria-invalid": wasRefused ? "true" : null,
  });
  const form = h("form", {
    class: "card sign-in",
    onsubmit: (event) => {
      event.preventDefault();
      setKey(field.value.trim());
      open({ moveFocus: true });
    },
  },
  h("h1", {}, "Client key"),
  wasRefused && h("p", { class: "problem", role: "alert" }, "The gateway does not know this key."),
  h("p", { id: `${id}-why`, class: "hint" },
    "This gateway has client keys. Yours stays in this tab and is sent as a header; closing the tab forgets it."),
  h("label", { for: id }, "Key"), field,
  h("button", { type: "submit", class: "primary" }, "Open"));
  show(main, form);
  field.focus();
}

function themeChoice() {
  return document.documentElement.dataset.theme ?? "system";
}

function showTheme() {
  const choice = themeChoice();
  const button = document.getElementById("theme");
  const next = THEMES[(THEMES.indexOf(choice) + 1) % THEMES.length];
  show(button, { system: "◐", light: "○", dark: "●" }[choice]);
  button.setAttribute("aria-label", `Theme: ${choice}. Switch to ${next}.`);
  button.title = `Theme: ${choice}`;
}

function switchTheme() {
  const next = THEMES[(THEMES.indexOf(themeChoice()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem(THEME_KEY, next);
  } catch {
    // storage may be forbidden; then the choice lasts until the page is closed
  }
  showTheme();
  announce(`Theme: ${next}`);
}

whenKeyIsNeeded(askForKey);
document.getElementById("theme").addEventListener("click", switchTheme);
document.getElementById("sign-out").addEventListener("click", () => askForKey(false));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => open({ moveFocus: true }));
showTheme();
open();
