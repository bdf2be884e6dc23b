// The paths of an answer by level, and by name for tables and files.

/** The path of a level; the service may write a level in other digits than this browser. */
export const pathOf = (paths, level) => paths[Object.keys(paths).find((key) => Number(key) === level)];

/** Every path of an answer with a name. */
export function columnsOf({ title, body }) {
  return [["", body.yhat_q], [" calibrated", body.yhat_q_conformal]].flatMap(([kind, paths]) =>
    paths ? body.quantiles.map((level) => ({ name: `${title}${kind} ${level}`, path: pathOf(paths, level) })) : []);
}
