// What was pasted or dropped, as a series: values alone, or lines of time and value.
// What is no number goes to the service as it was written, which then says where it is.

const EMPTY = new Set(["", "null", "nan", "na", "none", "n/a", "-"]);
const TIME_NAMES = /^(y_ts|ts|time|timestamp|date|datetime|at)$/i;
const VALUE_NAMES = /^(y|value|price|prob|probability|p|mid|close|last)$/i;

/** `{values, times}`; times are ISO texts, or null where there are none. */
export function readSeries(text) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");
  const rows = lines.map(cells);
  return looksTimed(rows) ? timed(rows) : { values: plain(text), times: null };
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

const cells = (line) => line.split(line.includes(";") ? ";" : line.includes("\t") ? "\t" : ",").map(unquoted);
const unquoted = (cell) => cell.trim().replace(/^"(.*)"$/, "$1").trim();

function looksTimed(rows) {
  return rows.length > 1 && rows.every((row) => row.length > 1) && rows.slice(1).some((row) => row.some((cell) => asTime(cell)));
}

function timed(rows) {
  const named = !rows[0].some((cell) => asTime(cell));
  const body = named ? rows.slice(1) : rows;
  const at = column(named && rows[0], TIME_NAMES, body, (cell) => asTime(cell) !== null, -1);
  const of = column(named && rows[0], VALUE_NAMES, body, (cell) => cell !== "" && Number.isFinite(Number(cell)), at);
  const kept = body.filter((row) => row.some((cell) => cell !== ""));
  return {
    values: kept.map((row) => value(row[of] ?? "")),
    times: kept.map((row) => asTime(row[at] ?? "") ?? row[at] ?? ""),
  };
}

/** The column of that name, else the first whose cells fit in most rows. */
function column(heads, names, body, fits, taken) {
  const named = heads ? heads.findIndex((head) => names.test(head)) : -1;
  if (named >= 0) return named;
  const width = Math.max(...body.map((row) => row.length));
  for (let i = 0; i < width; i += 1) {
    if (i !== taken && body.filter((row) => fits(row[i] ?? "")).length * 2 > body.length) return i;
  }
  return taken === 0 ? 1 : 0;
}

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
  if (parts.length && VALUE_NAMES.test(parts[0])) parts.shift();
  return parts.map(value);
}

const value = (cell) => (EMPTY.has(cell.toLowerCase()) ? null : numberOr(cell));
