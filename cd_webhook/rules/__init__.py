"""The rules, as pure functions of values.

`decide`: what to do about a request. `rollout` and `pods`: how a rollout goes. `plan`: what to write when it changes.
`drift`: what somebody changed by hand.
"""
