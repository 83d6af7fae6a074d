package stage

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Host lists the links, addresses and firewall rules of this network namespace
// and the mounts below a directory, one in each string. What ignore matches is
// taken out: counters, and what changes by itself.
func Host(below string, ignore *regexp.Regexp) ([]string, error) {
	var all []string
	for _, c := range [][]string{{"ip", "-o", "link"}, {"ip", "-o", "-4", "addr"}, {"nft", "list", "ruleset"}} {
		out, err := exec.Command(c[0], c[1:]...).Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c[0], err)
		}
		for line := range strings.Lines(string(out)) {
			// Elements of a set stand in one line.
			for part := range strings.SplitSeq(strings.TrimSpace(line), ", ") {
				all = append(all, c[0]+": "+ignore.ReplaceAllString(part, ""))
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], below) {
			all = append(all, "mount: "+f[4])
		}
	}
	return all, nil
}

// Difference gives what is there now and was not before, and the reverse.
func Difference(before, now []string) (diff []string) {
	for _, n := range now {
		if !slices.Contains(before, n) {
			diff = append(diff, "new "+n)
		}
	}
	for _, b := range before {
		if !slices.Contains(now, b) {
			diff = append(diff, "lost "+b)
		}
	}
	return diff
}
