"""When is a model left alone?

Each pair of model and runtime has a circuit breaker: it opens when calls fail, and after a cooldown
one call, the probe, finds out whether the model works again. `state_machine` has the table of all
transitions. `shared` says how the replicas of an application come to agree: one actor holds the
breakers, each replica decides on a copy. Both are pure: time and chance are arguments.

Others use `Permit`, `CallResult`, `Verdict` and `call_result` of `state_machine`, and of `shared`
`Breakers`, `SharedBreakers` and the messages between them.
"""
