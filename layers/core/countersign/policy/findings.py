"""The linter's findings: each code's level, meaning, action, and whether it can be waived.

`docs/profiles.md` is generated from this table.
"""

from typing import Literal, NamedTuple

type Level = Literal["error", "warning", "info"]
ORDER: tuple[Level, ...] = ("error", "warning", "info")


class Code(NamedTuple):
    """What a code means.

    Args:
        level: without a profile, or with a profile that is not for production.
        production: level with a profile for production.
        meaning: when it is found, in one sentence.
        action: what to do.
        waiver: when a profile may accept it. None: never, because the HSM or TSB would refuse, or
            the enrollment could not end.
    """

    level: Level
    production: Level
    meaning: str
    action: str
    waiver: str | None = None


CODES = {
    "key-blocked": Code(
        "error", "error",
        "The key would be created blocked, so it can sign nothing, its own CSR included.",
        "Set it to false; block the key after it has been used.",
    ),
    "rule-empty": Code(
        "error", "error",
        "ruleUse has no token, so it can never be fulfilled.",
        "Add a token with a group of approvers.",
    ),
    "token-asks-nobody": Code(
        "error", "error",
        "A token of ruleUse has no group, so the key could be used without anybody's approval.",
        "Add a group of approvers.",
    ),
    "approval-unreadable": Code(
        "error", "error",
        "An approver's public key or certificate cannot be read, or a name is missing.",
        "Give the base64 of the DER, on one line, as the approver app shows it; for an onboarded"
        " approver the name under which TSB onboarded them.",
    ),
    "approver-key-unfit": Code(
        "error", "error",
        "An approver's key cannot approve (DSA, X25519, DH), can be broken (RSA below 2048 bits or"
        " with a small factor, P-192), or is not encoded as TSB does.",
        "Have the approver make an RSA key of 2048 bits or more, or one on P-256 or Ed25519, and"
        " give it as their app shows it.",
    ),
    "approver-name-unfit": Code(
        "error", "error",
        "An approver's name cannot be shown as it is: it is too long, holds what nobody sees, or"
        " what stands around names.",
        "Give the person's name in at most 100 usual characters.",
    ),
    "name-not-theirs": Code(
        "error", "error",
        "A key goes by the name of somebody else in the directory, or a key of the directory by"
        " another name than the directory's.",
        "Use the directory's names for its people's keys, and for no other key.",
    ),
    "policy-too-large": Code(
        "error", "error",
        "The policy has more approvals or tokens than can be shown, compared and kept, or a name of"
        " more than 100 characters.",
        "Name fewer approvers; 100 in all rules together are accepted.",
    ),
    "time-not-minutes": Code(
        "error", "error",
        "A timelock or timeout is no multiple of 60 seconds; TSB counts minutes.",
        "Round it to a multiple of 60.",
    ),
    "timelock-after-timeout": Code(
        "error", "error",
        "A timelock is not shorter than its timeout, so nothing could ever be executed.",
        "Make timelock smaller than timeout.",
    ),
    "time-beyond-workflow": Code(
        "error", "error",
        "A timeout or timelock of ruleUse is longer than the workflow can wait: Step Functions ends"
        " an execution after a year. Where a timeout is 0, the workflow's deadline (parameter"
        " WorkflowDeadlineDays) must leave time after the timelock.",
        "Shorten it to at most the number of seconds that the finding names.",
    ),
    "quorum-unreachable": Code(
        "error", "error",
        "A group's quorum is larger than the number of distinct people in it.",
        "Lower the quorum or add approvers with keys of their own.",
    ),
    "key-twice": Code(
        "error", "error",
        "The same key stands twice in a group, be it as public key and as certificate.",
        "Name each approver once.",
    ),
    "person-twice": Code(
        "error", "error",
        "A person stands in a group under two keys and would count twice towards the quorum.",
        "Name each person once, with one key.",
    ),
    "name-shared": Code(
        "error", "error",
        "Two keys go by one name, or by names that read alike: nobody could tell who agreed.",
        "Give each approver key a name of its own.",
    ),
    "groups-overlap": Code(
        "info", "info",
        "A person stands in two groups of one token: one approval counts for both.",
        "Nothing, where that is meant.",
        "It needs none.",
    ),
    "window-endless": Code(
        "warning", "error",
        "A timeout is 0: the request never expires, and nobody would ever be told.",
        "Give a timeout; 86400 is a day.",
        "The stack's own deadline (parameter WorkflowDeadlineDays) is what is wanted.",
    ),
    "window-below-fetch": Code(
        "warning", "error",
        "A window is shorter than the 15 minutes between two fetches of the vendor's approver app.",
        "Give a timeout of 1800 or more; 86400 is a day.",
        "The approvers are on call and fetch their tasks by hand.",
    ),
    "window-tight": Code(
        "warning", "warning",
        "A window is shorter than 30 minutes: one fetch of the approver app and little else.",
        "Give a timeout of 1800 or more; 86400 is a day.",
        "The approvers are on call.",
    ),
    "change-rule-weaker": Code(
        "warning", "error",
        "People who cannot use the key, or only later, could change who can (ruleModify).",
        "Make ruleModify ask at least whom ruleUse asks, or freeze it: {\"tokens\": []}.",
        "The policy is administered by a body of its own, and that was agreed.",
    ),
    "change-rule-unclear": Code(
        "warning", "warning",
        "ruleModify and ruleUse are too large to be compared.",
        "Use fewer groups, or freeze ruleModify: {\"tokens\": []}.",
        "The rules were compared by hand.",
    ),
    "unblock-rule-open": Code(
        "warning", "warning",
        "ruleUnblock asks nobody: anybody who may call TSB can undo a block.",
        "Give it a group of approvers, or freeze it: {\"tokens\": []}.",
        "Blocking is not part of the incident plan.",
    ),
    "approver-unlisted": Code(
        "warning", "error",
        "An approver's key is not in the directory, so nobody knows whose it is.",
        "Have the person entered into the directory of approvers.",
        "The key is a machine's, and its owner is on record elsewhere.",
    ),
    "approver-not-valid": Code(
        "error", "error",
        "An approver's key or certificate is not valid yet, or no longer.",
        "Have the approver's new key entered into the directory.",
        "The HSM does not look at dates, and the replacement is under way.",
    ),
    "approver-expires": Code(
        "warning", "warning",
        "An approver's key or certificate expires before the window ends.",
        "Have the approver's new key entered into the directory.",
        "The others suffice.",
    ),
    "requester-approves": Code(
        "error", "error",
        "The requester is one of the approvers.",
        "Let somebody else ask, or have another profile made for it.",
        "The others suffice for the quorum, and the team is too small for more.",
    ),
    "requester-unknown": Code(
        "info", "error",
        "The trigger does not know who asks, so nobody can be compared with the approvers.",
        "Ask through the API, which knows its callers.",
        "Who may use the other triggers was reviewed, and none of them approves.",
    ),
    "requester-may-approve": Code(
        "warning", "error",
        "The requester has the role of an approver, under a session's name of their own choice.",
        "Let a role ask that no approver has, or list the role itself in the directory.",
        "The role's trust policy fixes the name of each holder's session (sts:RoleSessionName).",
    ),
    "principal-evadable": Code(
        "warning", "warning",
        "The directory lists an approver by what they can rename: a session, or no ARN at all.",
        "List the user, the role without a session, or a session of IAM Identity Center.",
        "The role's trust policy fixes the name of each holder's session (sts:RoleSessionName).",
    ),
    "ca-key-unnamed": Code(
        "info", "warning",
        "The profile names no CA key, so nobody compares its approvers with these.",
        "Give caKeyLabel.",
        "The CA's key is not in this HSM.",
    ),
    "ca-policy-unread": Code(
        "warning", "error",
        "The CA key's policy could not be read from the HSM, or is not what the HSM attests.",
        "Correct caKeyLabel, or wait until the CA key is there.",
        "The CA key is made later.",
    ),
    "ca-key-unfit": Code(
        "error", "error",
        "The CA key cannot sign the certificate that is asked for, or not for so long.",
        "Correct the CA key or its certificate in the HSM, or what is asked for; nothing was"
        " created.",
    ),
    "ca-key-unguarded": Code(
        "warning", "error",
        "The CA key can be used without anybody's approval.",
        "Have the CA key made anew with a policy; a key without one can never get one.",
        "Access to the CA key is held elsewhere.",
    ),
    "ca-approvers-overlap": Code(
        "warning", "error",
        "People approve both for this key and for the CA key that will sign its certificate, or may"
        " change who approves for that one.",
        "Choose approvers who do not approve for the CA key; the vendor's tutorial demands it.",
        "The team is too small for two quorums, and that was accepted.",
    ),
}  # fmt: skip
