// Decisions as they come, and what they add up to: sessions, providers, costs by route.

import { call, events } from "./api.js";
import { announce, debounce, h, newId, show } from "./dom.js";
import { NO_ROUTE, clock, dollars, median, milliseconds, plural, score } from "./format.js";
import { putIntoPlayground } from "./playground.js";

const PAGE = 50;
const HEALTH_MS = 5000;
const AGAIN_MS = 2000;
const MAX_SESSIONS = 8;

class Live {
  constructor(root, config) {
    this.config = config;
    this.decisions = [];
    this.seen = { after: 0, replica: "" };
    this.replica = config.replica;
    this.isPaused = false;
    this.filter = { text: "", kind: "" };
    this.closing = new AbortController();
    this.openRows = new Set();
    this.shown = PAGE;
    this.drawSoon = debounce(30, () => this.draw());
    this.build(root);
    this.follow();
    this.checkHealth();
    this.timer = setInterval(() => this.checkHealth(), HEALTH_MS);
  }

  build(root) {
    const filterId = newId("filter");
    this.state = h("span", { class: "state" }, "Connecting…");
    this.pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.togglePause() }, "Pause");
    this.search = h("input", {
      id: filterId, type: "search", placeholder: "route, model, client, text…", autocomplete: "off", spellcheck: "false",
      oninput: () => { this.filter.text = this.search.value.trim().toLowerCase(); this.drawSoon(); },
    });
    this.kind = h("select", { "aria-label": "Kind", onchange: () => { this.filter.kind = this.kind.value; this.drawSoon(); } },
      [["", "all"], ["content", "decided by content"], ["none", NO_ROUTE], ["failed", "failed"], ["retried", "several attempts"]]
        .map(([value, words]) => h("option", { value }, words)));
    this.figures = h("dl", { class: "figures" });
    this.list = h("ul", { class: "rows", "aria-label": "Decisions, newest first" });
    this.empty = h("p", { class: "empty", hidden: true });
    this.more = h("button", { type: "button", class: "more-rows", hidden: true, onclick: () => { this.shown += PAGE; this.draw(); } });
    this.providers = h("div");
    this.costs = h("div");
    this.sessions = h("div");
    this.note = h("p", { class: "hint" }, this.noteText());
    show(root,
      h("section", { class: "card area-figures", "aria-label": "Figures" }, this.figures, this.note),
      section("decisions", "Decisions", [this.state, this.pause],
        h("div", { class: "filters" }, h("label", { for: filterId }, "Filter"), this.search, this.kind), 
        h("div", { class: "row-head", "aria-hidden": "true" }, ["Time", "Decision", "Model", "Status", "Took", "Cost"].map((word) => h("span", {}, word))),
        this.list, this.more, this.empty),
      section("providers", "Providers", null, this.providers),
      section("costs", "Costs by route", null, this.costs),
      section("sessions", "Sessions", null, this.sessions));
  }

  noteText() {
    const whose = this.config.keeps.all_clients ? "" : " of your client key";
    return `The last ${this.config.keeps.decisions} requests${whose} that ingress replica ${this.replica} answered.`;
  }

  async follow() {
    while (!this.closing.signal.aborted) {
      try {
        const query = `live?after=${this.seen.after}&replica=${encodeURIComponent(this.seen.replica)}`;
        for await (const batch of events(query, this.closing.signal)) this.receive(batch);
      } catch (error) {
        if (error.name === "AbortError" || error.status === 401) return;
        this.state.textContent = error.status ? error.message : "Connection lost, trying again…";
        this.state.className = "state off";
      }
      await new Promise((resolve) => { setTimeout(resolve, AGAIN_MS); });
    }
  }

  receive(batch) {
    if (this.seen.replica && batch.replica !== this.seen.replica) this.decisions = [];
    this.seen = { after: batch.last, replica: batch.replica };
    this.replica = batch.replica;
    this.decisions.push(...batch.decisions);
    this.decisions.splice(0, Math.max(0, this.decisions.length - this.config.keeps.decisions));
    if (this.isPaused) this.showState();
    else { this.frozen = null; this.drawSoon(); }
  }

  togglePause() {
    this.isPaused = !this.isPaused;
    this.frozen = this.isPaused ? [...this.decisions] : null;
    this.pause.textContent = this.isPaused ? "Resume" : "Pause";
    this.pause.setAttribute("aria-pressed", String(this.isPaused));
    announce(this.isPaused ? "Paused" : "Following");
    this.drawSoon();
  }

  showState() {
    const last = this.frozen?.at(-1)?.number ?? 0;
    const waiting = this.isPaused ? this.decisions.filter((one) => one.number > last).length : 0;
    this.state.className = `state ${this.isPaused ? "held" : "on"}`;
    this.state.textContent = this.isPaused ? `Paused, ${waiting} new` : "Following";
  }

  draw() {
    const all = this.frozen ?? this.decisions;
    this.showState();
    this.note.textContent = this.noteText();
    const shown = all.filter((one) => matches(one, this.filter)).reverse();
    const focused = document.activeElement?.closest?.(".row")?.dataset.number;
    show(this.list, shown.slice(0, this.shown).map((one) => this.row(one)));
    this.more.hidden = shown.length <= this.shown;
    this.more.textContent = `Show ${Math.min(PAGE, shown.length - this.shown)} more of ${shown.length}`;
    if (focused) this.list.querySelector(`[data-number="${focused}"] summary`)?.focus();
    this.empty.hidden = shown.length > 0;
    this.empty.textContent = all.length ? "No decision matches the filter." : "No requests yet. They appear here as they are answered.";
    show(this.figures, figures(all));
    show(this.costs, costs(all));
    show(this.sessions, sessions(all));
    this.drawProviders();
  }

  row(one) {
    const isOpen = this.openRows.has(one.number);
    const details = h("details", { open: isOpen },
      h("summary", {},
        h("time", { datetime: new Date(one.at * 1000).toISOString() }, clock(one.at)),
        h("span", { class: "row-decision" }, one.route ? h("span", { class: "route-tag" }, one.route) : h("span", { class: "none-name" }, whyShort(one)),
          one.confidence !== null && h("span", { class: "small muted" }, score(one.confidence))),
        h("span", { class: "row-model mono" }, one.model ?? one.candidates[0] ?? "–"),
        h("span", { class: `status ${isFailed(one) ? "bad" : "good"}` }, statusOf(one)),
        h("span", { class: "number" }, one.reason ? milliseconds(one.took_ms ?? one.decided_ms) : "–"),
        h("span", { class: "number" }, one.tokens && one.usd === null ? "unpriced" : dollars(one.usd))),
      isOpen && detail(one));
    details.addEventListener("toggle", () => {
      if (details.open) this.openRows.add(one.number);
      else this.openRows.delete(one.number);
      if (details.open && details.children.length === 1) details.append(detail(one));
    });
    return h("li", { class: "row", "data-number": one.number }, details);
  }

  async checkHealth() {
    if (document.hidden) return;
    try {
      this.health = await call("health", { signal: this.closing.signal });
      this.drawProviders();
    } catch {
      // the live stream reports that the gateway is gone
    }
  }

  drawProviders() {
    if (this.health) show(this.providers, providers(this.health.endpoints, this.decisions));
  }

  close() {
    this.closing.abort();
    this.drawSoon.cancel();
    clearInterval(this.timer);
  }
}

const isFailed = (one) => one.status === null || one.status >= 400 || one.error !== "";
const whyShort = (one) => (one.reason === "no_match" ? NO_ROUTE : (one.reason || "refused").replaceAll("_", " "));

function statusOf(one) {
  if (one.status === null) return "left";
  return one.error === "broken" || one.error === "client_gone" ? `${one.status}, ${one.error === "broken" ? "broken off" : "left"}` : String(one.status);
}

function matches(one, { text, kind }) {
  if (kind === "content" && one.threshold === null) return false;
  if (kind === "none" && one.reason !== "no_match") return false;
  if (kind === "failed" && !isFailed(one)) return false;
  if (kind === "retried" && one.attempts.length < 2) return false;
  if (!text) return true;
  return [one.route, one.model, one.asked, one.client, one.reason, one.surface, one.text, one.session_id, one.error, one.id, ...one.candidates]
    .some((value) => value && value.toLowerCase().includes(text));
}

function detail(one) {
  const pairs = [
    ["Surface", one.surface], ["Reason", one.reason || "–"], ["Error", (one.error || "–").replaceAll("_", " ")], ["Asked for", one.asked || "left open"], ["Client", one.client || "–"],
    ["Session", one.session ? `${one.session}, ${one.session_id}` : "–"], ["Decided after", milliseconds(one.decided_ms)],
    ["First token", milliseconds(one.first_token_ms)], ["Tokens", tokens(one)], ["Request", one.id || "–"],
  ];
  const scores = Object.entries(one.scores).sort((a, b) => b[1] - a[1]).slice(0, 6);
  return h("div", { class: "row-detail" },
    one.text && h("blockquote", { class: "seen" }, h("span", { class: "role" }, "user"), h("span", { class: "seen-text" }, one.text)),
    h("dl", { class: "pairs" }, pairs.filter(([, value]) => value !== "–").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    scores.length > 0 && h("p", { class: "small" }, "Scores: ",
      [...scores, ...(one.none === null ? [] : [[NO_ROUTE, one.none]])].map(([name, value]) => `${name} ${score(value)}`).join(", ")),
    one.attempts.length > 0 && h("ol", { class: "attempts" }, one.attempts.map((attempt) => h("li", {},
      h("span", { class: "mono" }, attempt.model), ` ${attempt.outcome}, ${milliseconds(attempt.took_ms)}`))),
    one.text && h("button", { type: "button", class: "link", onclick: () => putIntoPlayground(one.text) }, "Open in the playground"));
}

function tokens(one) {
  if (!one.tokens) return "–";
  const { input, cache_read: read, cache_write: written, output } = one.tokens;
  const cached = read || written ? `, ${read} read from and ${written} written to the cache` : "";
  return `${input} in${cached}, ${output} out${one.is_estimated ? " (estimated)" : ""}`;
}

function figures(all) {
  const asked = all.filter((one) => one.attempts.length > 0);
  const priced = asked.filter((one) => one.usd !== null);
  const unpriced = asked.filter((one) => one.usd === null && one.tokens).length;
  const took = median(asked.map((one) => one.took_ms).filter((value) => value !== null));
  const decided = median(all.filter((one) => one.threshold !== null).map((one) => one.decided_ms));
  const failed = all.filter(isFailed).length;
  const cells = [
    ["Requests", String(all.length), all.length ? `since ${clock(all[0].at)}` : "none yet"],
    ["Failed", String(failed), all.length ? `${((100 * failed) / all.length).toFixed(1)} %` : ""],
    ["Median answer", milliseconds(took), decided === null ? "" : `decided after ${milliseconds(decided)}`],
    ["Cost", dollars(priced.reduce((sum, one) => sum + one.usd, 0)), unpriced ? `and ${unpriced} unpriced` : ""],
  ];
  return cells.map(([name, value, more]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("span", { class: "more" }, more))));
}

function providers(endpoints, all) {
  if (!endpoints.length) return h("p", { class: "hint" }, "No provider is configured.");
  const counts = new Map();
  for (const one of all) {
    for (const attempt of one.attempts) {
      const entry = counts.get(attempt.model) ?? { good: 0, bad: 0 };
      entry[attempt.outcome === "ok" ? "good" : "bad"] += 1;
      counts.set(attempt.model, entry);
    }
  }
  return h("ul", { class: "providers" }, endpoints.map((endpoint) => {
    const rests = endpoint.rests;
    const prefixes = endpoint.models.map((name) => name.replace(/\*$/, ""));
    const own = [...counts].filter(([model]) => endpoint.models.includes(model) || prefixes.some((start) => start.endsWith("/") && model.startsWith(start)));
    const good = own.reduce((sum, [, entry]) => sum + entry.good, 0);
    const bad = own.reduce((sum, [, entry]) => sum + entry.bad, 0);
    return h("li", {},
      h("span", { class: `dot ${rests.length ? "resting" : "ready"}`, "aria-hidden": "true" }),
      h("div", {},
        h("p", {}, h("b", {}, endpoint.provider), h("span", { class: "small muted" }, rests.length ? " resting" : " ready")),
        h("p", { class: "small muted mono wrap" }, endpoint.models.slice(0, 4).join(", "), endpoint.models.length > 4 && ` and ${endpoint.models.length - 4} more`),
        rests.map((rest) => h("p", { class: "small resting-why" }, `${rest.model ?? "all models"}: ${rest.why.replaceAll("_", " ")}, ${Math.ceil(rest.seconds)} s left`)),
        good + bad > 0 && h("p", { class: "small muted" }, plural(good, "answer"), ", ", plural(bad, "failure"))));
  }));
}

function costs(all) {
  const routes = new Map();
  for (const one of all.filter((each) => each.attempts.length > 0)) {
    const name = one.route ?? (one.rule || (one.threshold === null && one.reason !== "affinity" ? "named models" : NO_ROUTE));
    const entry = routes.get(name) ?? { usd: 0, count: 0, unpriced: 0 };
    entry.count += 1;
    if (one.usd === null) entry.unpriced += 1;
    else entry.usd += one.usd;
    routes.set(name, entry);
  }
  if (!routes.size) return h("p", { class: "hint" }, "Nothing was spent yet.");
  const sorted = [...routes].sort((a, b) => b[1].usd - a[1].usd || b[1].count - a[1].count);
  const most = Math.max(...sorted.map(([, entry]) => entry.usd)) || 1;
  return h("ul", { class: "costs" }, sorted.map(([name, entry]) => h("li", {},
    h("span", { class: "cost-name" }, name), h("span", { class: "number" }, entry.unpriced === entry.count ? "unpriced" : dollars(entry.usd)),
    h("span", { class: "cost-track", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * entry.usd) / most}%` } })),
    h("span", { class: "small muted" }, plural(entry.count, "request"), entry.unpriced > 0 && entry.unpriced < entry.count && `, ${entry.unpriced} unpriced`))));
}

function sessions(all) {
  const known = new Map();
  for (const one of all.filter((each) => each.session_id)) {
    const entry = known.get(one.session_id) ?? { count: 0, moves: 0, model: null };
    const model = one.model ?? one.candidates[0];
    if (entry.model !== null && entry.model !== model) entry.moves += 1;
    known.delete(one.session_id); // the newest last
    known.set(one.session_id, { count: entry.count + 1, moves: entry.moves, model, at: one.at, state: one.session });
  }
  if (!known.size) return h("p", { class: "hint" }, "No request named a session.");
  const newest = [...known].reverse().slice(0, MAX_SESSIONS);
  return [
    h("ul", { class: "sessions" }, newest.map(([id, entry]) => h("li", {},
      h("span", { class: "mono" }, id), h("span", { class: "mono strong wrap" }, entry.model ?? "–"),
      h("span", { class: "small muted" }, `${plural(entry.count, "request")}, ${plural(entry.moves, "move")}, last ${clock(entry.at)}`)))),
    known.size > MAX_SESSIONS && h("p", { class: "hint" }, `and ${known.size - MAX_SESSIONS} more`),
  ];
}

function section(area, title, actions, ...content) {
  const id = newId("title");
  return h("section", { class: `card area-${area}`, "aria-labelledby": id },
    h("header", { class: "card-head" }, h("h2", { id }, title), actions && h("div", { class: "actions" }, actions)), content);
}

export function openLive(root, config) {
  const live = new Live(root, config);
  return () => live.close();
}
