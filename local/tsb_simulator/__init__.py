"""A Securosys Transaction Security Broker (TSB) to develop and test against; never deployed.

Read in the order in which a call travels: server → app → interception (faults, API keys) → routes →
broker (the state) → keys, attestation, certificates, names, policy. `control` is the test's side.
"""
