"""Nothing that was acknowledged is ever lost: killed processes, cut power, failing system calls, full disks, bad networks."""
