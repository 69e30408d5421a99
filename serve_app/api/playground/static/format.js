// Numbers, times and reasons in words.

export const NO_ROUTE = "no route";

// A route may be called “constructor”, which every object has.
export const own = (values, name) => (Object.hasOwn(values, name) ? values[name] : null);

export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

export function change(value) {
  return `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(3)}`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  return `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
}

export function dollars(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "$0";
  if (value >= 1) return `$${value.toFixed(2)}`;
  if (value >= 0.01) return `$${value.toFixed(3)}`;
  if (value < 0.000001) return "<$0.000001";
  return `$${value.toFixed(6).replace(/0+$/, "")}`;
}

export function priceOf(price) {
  if (!price) return "price unknown";
  const money = (value) => `$${value >= 1 || Number(value.toFixed(2)) === value ? value.toFixed(2) : Number(value.toPrecision(3))}`;
  return `${money(price.input)} in, ${money(price.output)} out per million tokens`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

export function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many ?? `${one}s`}`;
}

export function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const REASONS = {
  explicit: "The request names this model.",
  alias: "The request names an alias of this model.",
  route: "This route has the best score, and it is high enough.",
  cached: "This route has the best score, and it is high enough.",
  always_route: "This route fits best; the named model is a fallback.",
  no_match: "No route scores high enough, so the default model answers.",
  default: "There is nothing to choose between, so the default model answers.",
  rule: "A routing rule matches, so the content was not read.",
  affinity: "The session stays on its model.",
  escalation: "The conversation has had a setback, so it moves up its route.",
  state: "Only this model's provider can continue the earlier answer.",
  failover: "An earlier candidate failed.",
  orchestrator_timeout: "The orchestrator did not answer in time, so the default model answers.",
  orchestrator_error: "The orchestrator is unavailable, so the default model answers.",
  orchestrator_busy: "The orchestrator is busy with requests; try again.",
  breaker_open: "The orchestrator is paused after failures, so the default model answers.",
};

export const reasonText = (reason) => REASONS[reason] ?? reason;
