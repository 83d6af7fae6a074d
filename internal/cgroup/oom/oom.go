// Package oom reads from cgroups whether memory has run out in them. The monitor
// and the engine ask: standard library only.
package oom

import (
	"os"
	"strings"
)

// Killed tells whether the kernel has killed one of the processes of these
// cgroups for want of memory: memory.oom_control of version 1, memory.events of
// version 2.
func Killed(dirs []string) bool {
	for _, dir := range dirs {
		for _, name := range []string{"/memory.events", "/memory.oom_control"} {
			data, err := os.ReadFile(dir + name)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(data)) {
				if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok && n != "0" {
					return true
				}
			}
		}
	}
	return false
}
