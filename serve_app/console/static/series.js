// What was pasted or dropped, as a series: values alone, or lines of time and value.
// What is no number goes to the service as it was written, which then says where it is.

const EMPTY = new Set(["", "null", "nan", "na", "none", "n/a", "-"]);
// The names of columns in order of preference, the same as in tsfm_client/series_files.py.
const TIME_NAMES = [
  "ts", "timestamp", "time", "t", "datetime", "date", "y_ts", "end_period_ts", "at",
];
const VALUE_NAMES = [
  "price", "value", "y", "probability", "prob", "p", "close", "last", "yes_price", "mid",
];
const MARKET_NAMES = [
  "market_id", "market", "ticker", "market_ticker", "symbol", "slug", "market_slug", "market_name",
  "contract_id", "contract", "contract_name", "token_id", "token", "question", "outcome", "id",
  "event_id", "event", "event_slug", "event_name",
];

/** `{values, times}`; times are ISO texts, or null where there are none. */
export function readSeries(text) {
  const rows = linesOf(text).map(cells);
  return looksTimed(rows) ? timed(rows) : { values: plain(text), times: null };
}

export const MOST_VALUES = 20000; // of a request

/** `[id, text]` of each market in a file, its newest rows; the id is empty where no column names it. */
export function marketsIn(text) {
  const lines = linesOf(text);
  const rows = lines.map(cells);
  if (!looksTimed(rows)) return [["", text]];
  const { body, market } = columnsIn(rows);
  const heads = lines.slice(0, lines.length - body.length);
  const found = new Map();
  body.forEach((row, i) => {
    const id = row[market] ?? "";
    if (!found.has(id)) found.set(id, []);
    found.get(id).push(lines[heads.length + i]);
  });
  return [...found].map(([id, own]) => [id, [...heads, ...own.slice(-MOST_VALUES)].join("\n")]);
}

/** The step that most neighbours are apart, as `5m`, or null. */
export function stepOf(times) {
  if (!times || times.length < 2) return null;
  const steps = times.slice(1).map((time, i) => Date.parse(time) - Date.parse(times[i])).sort((a, b) => a - b);
  const minutes = Math.round(steps[steps.length >> 1] / 60000);
  if (!(minutes >= 1)) return null;
  if (minutes % 1440 === 0) return `${minutes / 1440}d`;
  return minutes % 60 === 0 ? `${minutes / 60}h` : `${minutes}m`;
}

/** A text box's content as a number where it is one, else as it is. */
export function numberOr(text) {
  const trimmed = text.trim();
  return trimmed !== "" && Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
}

const linesOf = (text) => text.split(/\r?\n/).map((line) => line.trim()).filter((line) => /[^\s,;"]/.test(line));
const cells = (line) => line.split(line.includes(";") ? ";" : line.includes("\t") ? "\t" : ",").map(unquoted);
const unquoted = (cell) => cell.trim().replace(/^"(.*)"$/, "$1").trim();
const nameOf = (head) => head.toLowerCase().replace(/\s*\([^)]*\)$/, "").replace(/[\s-]+/g, "_");
const named = (heads, names) => names.map((name) => heads.indexOf(name)).filter((i) => i >= 0);
const isTime = (cell) => asTime(cell) !== null;
const isNumber = (cell) => cell !== "" && Number.isFinite(Number(cell));

function looksTimed(rows) {
  return rows.length > 1 && rows.every((row) => row.length > 1) && rows.slice(1).some((row) => row.some(isTime));
}

function timed(rows) {
  const { body, at, of } = columnsIn(rows);
  return {
    values: body.map((row) => value(row[of] ?? "")),
    times: body.map((row) => asTime(row[at] ?? "") ?? row[at] ?? ""),
  };
}

/** The rows without the header, and which column holds the time, the market (-1: none) and the value. */
function columnsIn(rows) {
  const heads = rows[0].some(isTime) ? null : rows[0].map(nameOf);
  const body = heads ? rows.slice(1) : rows;
  const at = column(heads, TIME_NAMES, body, isTime, []);
  const market = marketColumn(heads, body, at);
  return { body, at, market, of: column(heads, VALUE_NAMES, body, isNumber, [at, market]) };
}

/** The column of that name, else the first whose cells fit in most rows. */
function column(heads, names, body, fits, taken) {
  const [first] = heads ? named(heads, names) : [];
  if (first !== undefined) return first;
  const some = body.slice(-500); // enough to tell
  const free = [...rowOf(body).keys()].filter((i) => !taken.includes(i));
  return free.find((i) => some.filter((row) => fits(row[i] ?? "")).length * 2 > some.length) ?? free[0] ?? 0;
}

/** The column whose few different texts tell markets apart; one with another id in each row does not. */
function marketColumn(heads, body, at) {
  const ids = (i) => new Set(body.map((row) => row[i] ?? "")).size;
  const text = (i) => ids(i) > 1 && body.every((row) => !isNumber(row[i] ?? "") && !isTime(row[i] ?? ""));
  const columns = heads ? named(heads, MARKET_NAMES) : [...rowOf(body).keys()].filter((i) => i !== at && text(i));
  return columns.find((i) => ids(i) === 1 || ids(i) * 2 <= body.length) ?? -1;
}

const rowOf = (body) => body.reduce((widest, row) => (row.length > widest.length ? row : widest), []);

function asTime(cell) {
  if (/^\d{9,10}(\.\d+)?$/.test(cell)) return iso(Number(cell) * 1000);
  if (/^\d{12,13}$/.test(cell)) return iso(Number(cell));
  if (!/^\d{4}-\d{2}-\d{2}/.test(cell)) return null;
  const zoned = /(Z|[+-]\d{2}:?\d{2})$/i.test(cell) ? cell : `${cell.replace(" ", "T")}${cell.length > 10 ? "Z" : "T00:00:00Z"}`;
  return iso(Date.parse(zoned.replace(" ", "T")));
}

const iso = (ms) => (Number.isFinite(ms) ? new Date(ms).toISOString().replace(".000Z", "Z") : null);

function plain(text) {
  const bare = text.trim().replace(/^\[|\]$/g, "").replace(/\s*[,;]?\s*\n\s*/g, ",");
  const parts = bare.split(/[,;\t]/).flatMap((part) => unquoted(part).split(/\s+/));
  while (parts.length && parts.at(-1) === "") parts.pop();
  if (parts.length && VALUE_NAMES.includes(nameOf(parts[0]))) parts.shift();
  return parts.map(value);
}

const value = (cell) => (EMPTY.has(cell.toLowerCase()) ? null : numberOr(cell));
