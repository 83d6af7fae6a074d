// Package signal knows the names of signals, the real-time ones among them, which
// golang.org/x/sys does not: signal(7).
package signal

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The real-time signals that programs may use: two more are the C library's.
const (
	realTimeMin = 34
	realTimeMax = 64
)

// Parse reads a signal's number, or its name in letters of any case, with or without
// SIG. False: there is none.
func Parse(text string) (unix.Signal, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return unix.Signal(n), n > 0 && n <= realTimeMax
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for prefix, base := range map[string]int{"RTMIN": realTimeMin, "RTMAX": realTimeMax} {
		if offset, ok := strings.CutPrefix(name, prefix); ok {
			n, err := strconv.Atoi(offset)
			n += base
			return unix.Signal(n), (offset == "" || err == nil && strings.Contains("+-", offset[:1])) && n >= realTimeMin && n <= realTimeMax
		}
	}
	s := unix.SignalNum("SIG" + name)
	return s, s != 0
}

// Name is the name of a signal, a number where it has none.
func Name(s unix.Signal) string {
	switch {
	case s == realTimeMin:
		return "SIGRTMIN"
	case s > realTimeMin && s <= realTimeMax:
		return fmt.Sprintf("SIGRTMIN+%d", int(s)-realTimeMin)
	}
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return strconv.Itoa(int(s))
}
