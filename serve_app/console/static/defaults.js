// Defaults and limits of this very service, read from the document it gives of itself.

import { call } from "./api.js";

/** What the form starts with, and the bucket that sends a series to the baseline. */
export async function readDefaults() {
  const { body } = await call("openapi.json");
  const schemas = body.components.schemas;
  const fields = schemas.ForecastRequest.properties;
  return {
    horizon: fields.horizon_steps.default,
    levels: fields.quantiles.default,
    freq: fields.freq.default,
    maxGapMinutes: fields.max_gap_minutes.default,
    model: schemas.ModelChoice.properties.model_name.default,
    baselineBucket: fields.liquidity_bucket.examples?.[0] ?? null,
  };
}

/** Models that may be asked for. */
export const readModels = async () => (await call("tsfm/models")).body.models;
