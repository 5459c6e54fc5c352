"""The signature of a delivery, by which its receiver knows that it is ours and as we sent it.

Source: Standard Webhooks 1.0.0, "Signature scheme" and "Webhook headers": HMAC-SHA256 over id, timestamp and
body with full stops between them, with the key that the secret carries in base64.
"""

__all__ = ["signed_headers"]

import base64
import hashlib
import hmac


def signed_headers(secret: str, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that go with a body.

    Args:
        secret: `whsec_` and the key in base64.
        message_id: the same at every attempt, so that a receiver takes a message once.
        timestamp: seconds since 1970 of this attempt: receivers refuse an old one, for somebody may send it
            anew.
        body: what is sent, byte by byte.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
