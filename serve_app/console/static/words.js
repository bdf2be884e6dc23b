// What the codes of an answer mean, in words. A test holds the keys against those of the service.

export const REASONS = {
  too_few_points: "The series has too few observations for a model.",
  low_liquidity: "The liquidity bucket is one that only the baseline serves.",
  gap_too_long: "The series has a gap that is longer than allowed.",
  levels_not_supported: "The model does not give every level that was asked for.",
  routed_by_skill: "The model has lost to the baseline in markets like this one.",
  routed_by_coverage: "The model's calibrated bands have held too many or too few prices.",
  pinned_to_baseline: "An operator gave markets like this one to the baseline.",
  breaker_open: "The model is not called now: it failed too often, or an operator switched it off.",
  deadline_exceeded: "The model's answer would have come after the deadline.",
  overloaded: "More is waiting for the model than it can do.",
  runtime_timeout: "The model took too long.",
  runtime_unreachable: "The model's runtime cannot be reached.",
  runtime_overloaded: "The model's runtime has too much to do.",
  runtime_rejected: "The model's runtime does not accept this series.",
  runtime_unauthorized: "The runtime needs an API key, or the model's licence has not been accepted there.",
  runtime_error: "The model's runtime failed.",
  model_not_installed: "The model's runtime does not have this model.",
  bad_output: "The model's answer lacked levels or steps, or held values that are no numbers.",
  runner_unavailable: "The part of the service that calls models could not be reached.",
  stale_if_error: "The model has no answer now; this is its last one, a little past its time.",
};

export const ADVICE = {
  promote: "Better than the baseline over all forecasts, and worse in no segment.",
  hold: "Not enough is known, or it depends on the segment.",
  drop: "Worse than the baseline over all forecasts, and better in no segment.",
};

export const MISCOVERS = {
  under: "There is evidence that the bands are too narrow.",
  over: "There is evidence that the bands are too wide.",
};

export const WARNINGS = {
  baseline_in_process: "The baseline service did not answer in time; the same bands were computed in place.",
  runtime_ignored_covariates: "The model's runtime does not use all of the covariates.",
  runtime_filled_covariates: "The model's runtime filled missing values of covariates.",
  runtime_changed_series: "The model's runtime cut, padded or filled the series.",
  runtime_replaced_values: "The model's runtime replaced values of the forecast that were no numbers.",
  runtime_approximated_levels: "The model's runtime approximated the levels.",
  runtime_warning: "The model's runtime gave a warning; its log has it.",
  horizon_cut_at_close: "The market closes before the last step asked for; later steps are not forecast.",
  gaps_filled: "Missing values were filled with the last one before them.",
  model_params_dropped: "Options that the model does not allow were dropped.",
  model_version_not_selectable: "The version asked for cannot be chosen; the one installed answered.",
  values_clipped: "Values outside 0 to 1 were moved to the edge.",
  quantiles_rearranged: "Levels that crossed each other were put in order.",
  interval_widened: "The band was narrower than bands.min_interval_width, and was widened; a request can set a smaller one.",
  interval_narrowed: "The band was wider than allowed, and was narrowed.",
  conformal_uncalibrated: "No calibration is there yet for this kind of forecast.",
};

export const BREAKERS = {
  closed: "closed: the model is asked",
  open: "open: the model is not called",
  half_open: "half open: one call tries the model",
  forced_open: "held open by an operator",
  forced_closed: "held closed by an operator",
};

export const FORCED = "An operator has taken the model out of service.";

/** A warning in words; one this page does not know yet stays as it is. */
export function warningWords(code) {
  const reason = code.startsWith("fallback_") ? REASONS[code.slice(9)] : undefined;
  return reason ?? WARNINGS[code] ?? code;
}

export const reasonWords = (code) => REASONS[code] ?? code;

const COVARIATES = { none: "no covariates", past: "past covariates", past_and_future: "past and future covariates" };

/** What a model takes: quantile levels, covariates, context length. */
export function takes({ levels, level_range: range, covariates, max_context: context }) {
  const ends = levels?.length ? levels : range;
  const known = ends ? `levels ${ends[0]} to ${ends.at(-1)}` : levels ? "no quantile levels" : "any level";
  return [known, COVARIATES[covariates], context ? `${context} points` : "any length"].filter(Boolean).join(", ");
}

/** A model's measured skill against the baseline. */
export const skill = ({ skill: measured }) => {
  if (measured === null || measured === undefined) return "not measured";
  return `${measured < 0 ? "−" : "+"}${Math.abs(measured).toFixed(2)} against the baseline`;
};
