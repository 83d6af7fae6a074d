package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cove-engine/cove"
)

// Filter chooses events: of one key any value, of different keys all must
// match. The zero Filter matches every event.
type Filter map[string][]string

// ParseFilter reads podman's --filter arguments: container=, pod=, image=,
// volume=, network= (name, or for objects with IDs its beginning), event= or
// status=, type=, label=KEY[=VALUE]. Invalid names the argument.
func ParseFilter(args []string) (Filter, error) {
	f := Filter{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, cove.E("", "", cove.Invalid, fmt.Errorf("invalid filter %q: want KEY=VALUE", arg))
		}
		key = strings.ToLower(key)
		switch key {
		case "status":
			key = "event"
		case "container", "pod", "image", "volume", "network", "event", "type", "label":
		default:
			return nil, cove.E("", "", cove.Invalid,
				fmt.Errorf("%s is an invalid filter: want container, event, image, label, network, pod, type or volume", key))
		}
		if key == "event" && value == "die" { // docker's word
			value = "died"
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// Match reports whether e is chosen.
func (f Filter) Match(e cove.Event) bool {
	for key, values := range f {
		if !matchAny(key, values, e) {
			return false
		}
	}
	return true
}

func matchAny(key string, values []string, e cove.Event) bool {
	for _, v := range values {
		if match(key, v, e) {
			return true
		}
	}
	return false
}

func match(key, v string, e cove.Event) bool {
	switch key {
	case "event":
		return e.Status == v
	case "type":
		return e.Type == v
	case "label":
		k, want, valued := strings.Cut(v, "=")
		has, ok := e.Attributes[k]
		return ok && (!valued || has == want)
	case "network":
		return e.Type == key && (e.Network == v || e.Name == v || v != "" && strings.HasPrefix(e.ID, v))
	default:
		return e.Type == key && (e.Name == v || v != "" && strings.HasPrefix(e.ID, v))
	}
}

// ParseTime reads a moment as --since and --until take it: RFC 3339 with or
// without zone, seconds or the time of day; a Unix time in seconds with or
// without a fraction; or a duration before now. Without a zone it is local.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if at, ok := unixTime(s); ok {
		return at, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return at, nil
	}
	for _, layout := range []string{
		"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02", "2006-01-02 15:04:05.999999999",
		"2006-01-02 15:04:05.999999999 -0700 MST", "2006-01-02Z07:00", "2006-01-02T15:04Z07:00",
	} {
		if at, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return at, nil
		}
	}
	return time.Time{}, cove.E("", "", cove.Invalid,
		fmt.Errorf("unable to interpret time value %q: want a time (2006-01-02T15:04:05Z), a Unix time or a duration (10m)", s))
}

// unixTime reads seconds[.fraction].
func unixTime(s string) (time.Time, bool) {
	whole, part, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || len(whole) == 0 {
		return time.Time{}, false
	}
	if err != nil || sec > math.MaxInt64/int64(time.Second) {
		return time.Time{}, false
	}
	var nano int64
	if part != "" {
		if len(part) > 9 {
			part = part[:9]
		}
		n, err := strconv.ParseUint(part+strings.Repeat("0", 9-len(part)), 10, 32)
		if err != nil {
			return time.Time{}, false
		}
		nano = int64(n)
	}
	return time.Unix(sec, nano), true
}
