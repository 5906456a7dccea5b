"""Formats numbers, settings, durations and counts for the terminal."""

import json
import math
from typing import Any

from common.messages.counting import count

__all__ = ["count", "duration", "figure", "setting"]


def figure(value: float | None) -> str:
    """Formats a metric with four decimals, or four digits if it is tiny or huge; "–" for None."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4f}"
    return f"{value:.3e}"


def setting(value: Any) -> str:
    """Formats a setting as one would type it, numbers to four digits, other values as JSON; "–" for None.

    Text with line breaks or control codes is JSON too, so that it can't break a table or reach the terminal as a code.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and value.isprintable():
        return value
    return json.dumps(value, default=str, ensure_ascii=isinstance(value, str))


def duration(seconds: float | None) -> str:
    """Formats a duration, such as "12 s", "3 min 20 s", "1 h 05 min" or "2 d 03 h"."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole} s"
    if hours < 1:
        return f"{minutes} min {whole % 60:02} s"
    if days < 1:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24:02} h"
