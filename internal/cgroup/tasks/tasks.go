// Package tasks reads limits of the number of tasks from version 2 cgroups. The
// monitor and the runtime ask: standard library only.
package tasks

import (
	"os"
	"strconv"
	"strings"
)

// Ours is how many threads and children one of our processes has at most before it
// is the container's command, or an exec. (Version 1 does not come to know them: a
// thread joins alone.)
const Ours = 8

// Limit is a cgroup's own; limited is false where it has none.
func Limit(cgroup string) (limit int, limited bool) { return count(cgroup + "/pids.max") }

// Lacking tells that a cgroup's own limit leaves no room for one more of ours, whose
// Go runtime would end it with a page of its own.
func Lacking(cgroup string) bool {
	limit, limited := Limit(cgroup)
	if !limited {
		return false
	}
	now, known := count(cgroup + "/pids.current")
	return known && now > limit-Ours
}

// count reads a number of tasks; "max" is none.
func count(file string) (n int, ok bool) {
	data, err := os.ReadFile(file)
	if err == nil {
		n, err = strconv.Atoi(strings.TrimSpace(string(data)))
	}
	return n, err == nil
}
