"""From traffic to a decision to switch routing on, and the watch that is kept after."""
