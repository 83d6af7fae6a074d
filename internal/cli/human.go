package cli

import (
	"time"

	"github.com/docker/go-units"
)

// humanDuration is "3 seconds", "About an hour".
func humanDuration(d time.Duration) string { return units.HumanDuration(d) }

// humanSize is "1.21MB", decimal.
func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
