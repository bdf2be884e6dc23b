"""When is a model not called?

Each pair of model and runtime has a circuit breaker: it opens when calls fail, and after a cooldown
one call, the probe, tests whether the model works again. `state_machine` has the table of all
transitions, and `Breakers`, those of a process by name. `shared` has the protocol by which the
replicas of an application agree: one actor holds the breakers, each replica decides on a copy. Both
are pure: time and chance are arguments.

Others use `Breakers`, `Report`, `Permit`, `CallResult`, `Verdict` and `call_result` of
`state_machine`, and of `shared` `SharedBreakers` and the messages to it.
"""
