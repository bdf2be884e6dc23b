"""When is a model not called?

Each pair of model and runtime has a circuit breaker: it opens when calls fail, and after a cooldown
one call, the probe, tests whether the model works again. `state_machine` has the table of all
transitions. `shared` has the protocol by which the replicas of an application agree: one actor
holds the breakers, each replica decides on a copy. Both are pure: time and chance are arguments.

Others use `Permit`, `CallResult`, `Verdict` and `call_result` of `state_machine`, and of `shared`
`Breakers`, `SharedBreakers` and the messages between them.
"""
