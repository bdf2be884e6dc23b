// Why this answer: who made it, why not the model, what was changed, and where the time went.

import { h, millis, span, table } from "./dom.js";
import { BREAKERS, FORCED, reasonWords, warningWords } from "./words.js";

export function drawWhy(place, { body, headers, tookMs }) {
  const meta = body.meta;
  const notes = warnings(meta);
  place.replaceChildren(
    h("p", { class: "verdict", "data-source": meta.fallback_used ? "fallback" : "model" }, verdict(meta)),
    ...(notes.length ? [h("ul", { class: "warnings" }, notes)] : []),
    h("dl", { class: "facts" }, facts(meta, body).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    timings(meta, headers, tookMs),
  );
}

/** One sentence on where the bands come from. */
export function verdict(meta) {
  const who = meta.model_version ? `${meta.model_name} ${meta.model_version}` : meta.model_name;
  if (!meta.fallback_used) return `The model ${who} answered${meta.cache_hit ? ", from the cache" : ""}.`;
  const whose = meta.runtime === "baseline" ? "The baseline answered." : "An earlier answer of the model stands in.";
  const forced = meta.fallback_reason === "breaker_open" && meta.circuit_breaker_state === "forced_open";
  return `${whose} ${forced ? FORCED : reasonWords(meta.fallback_reason)}`;
}

// The warning that only repeats the reason is left out: the sentence above has said it.
const warnings = (meta) => meta.warnings
  .filter((code) => code !== `fallback_${meta.fallback_reason}`)
  .map((code) => h("li", {}, warningWords(code), " ", h("code", {}, code)));

function facts(meta, body) {
  return [
    ["Source", meta.runtime === "baseline" ? "baseline (EWMA)" : "model"],
    ["Model", meta.model_requested === meta.model_name ? meta.model_name : `${meta.model_requested}, run as ${meta.model_name}`],
    ["Reason", meta.fallback_reason ? h("code", {}, meta.fallback_reason) : "none: this is the model's own answer"],
    ["Cache", cacheWords(meta)],
    ["Breaker", BREAKERS[meta.circuit_breaker_state] ?? meta.circuit_breaker_state],
    ["Series", `${meta.input_len} steps used${meta.gaps_filled ? `, ${meta.gaps_filled} of them filled` : ""}`],
    ["Space", meta.transform.space],
    ["Batch", meta.batch_size ? `${meta.batch_size} series in the model's call` : "no call to the model"],
    ["Calibration", calibrationWords(body)],
  ];
}

function cacheWords(meta) {
  if (!meta.cache_hit) return "a new answer";
  return `${meta.cache_stale ? "kept, past its time" : "kept"}, ${span(meta.cache_age_s ?? 0)} old`;
}

function calibrationWords({ conformal_last_step: last }) {
  if (last === undefined) return "not asked for";
  if (last.target_coverage === null) return "none yet for this kind of forecast";
  return `aims at ${Math.round(100 * last.target_coverage)} % from ${last.sample_size} outcomes (${last.segment})`;
}

function timings(meta, headers, tookMs) {
  const own = stages(headers);
  const call = meta.cache_hit || !own.length ? called(meta) : [];
  const rest = restOf(meta, meta.cache_hit ? own : [...own, ...call]);
  const steps = [...own, ...call, ...rest, ["In the service, all in all", meta.latency_ms], ["Seen from this browser", tookMs]];
  const longest = Math.max(...steps.map(([, ms]) => ms), 1);
  return table("Where the time went", ["Stage", "Time", "Share"], steps.map(([name, ms]) => [name, millis(ms), meter(ms, longest)]));
}

/** The call behind the bands, which for a kept answer was made for somebody before. */
function called(meta) {
  if (meta.runtime_ms === undefined) return [];
  const note = meta.cache_hit ? " (of the kept answer)" : "";
  return [[`Waiting for the model${note}`, meta.queue_ms], [`Model call${note}`, meta.runtime_ms]];
}

/** What is left of the service's time when its known stages are taken away. */
function restOf(meta, known) {
  const ms = meta.latency_ms - known.reduce((sum, [, one]) => sum + one, 0);
  return known.length && ms > 0.05 ? [["Between the parts of the service", ms]] : [];
}

const STAGES = {
  admission: "Reading and admission",
  queue: "Waiting for the model",
  runtime: "Model call",
  post: "Post-processing",
};

/** The stages of the Server-Timing header, where the service sends one; the total is in `meta`. */
export function stages(headers) {
  return (headers.get("server-timing") ?? "").split(",").flatMap((part) => {
    const name = part.split(";")[0].trim();
    const ms = /dur=([\d.]+)/.exec(part)?.[1];
    return ms && name !== "total" ? [[STAGES[name] ?? name, Number(ms)]] : [];
  });
}

function meter(ms, longest) {
  const bar = h("span", { class: "meter", "aria-hidden": "true" }, h("span", {}));
  bar.firstChild.style.width = `${Math.max(1, (100 * ms) / longest)}%`;
  return bar;
}
