package top

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/capability"
	"github.com/cove-engine/cove/internal/procfs"
)

func kibibytes(text string, unit uint64) string {
	n, _ := strconv.ParseUint(text, 10, 64)
	return strconv.FormatUint(n*unit/1024, 10)
}

// ttyName is the terminal of a device number as field 7 of stat has it.
func ttyName(field string) string {
	n, err := strconv.ParseInt(field, 10, 64)
	if err != nil || n == 0 {
		return "?"
	}
	dev := uint64(uint32(n))
	major, minor := unix.Major(dev), unix.Minor(dev)
	switch {
	case major >= 136 && major <= 143: // Unix98 pseudo terminals
		return fmt.Sprintf("pts/%d", (major-136)<<8|minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	}
	return "?"
}

// capText names the capabilities of a mask in hexadecimal.
func capText(mask string) string {
	n, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		return "?"
	}
	all := capability.Names()
	known := uint64(1)<<len(all) - 1
	if last, err := procfs.Read("/proc/sys/kernel/cap_last_cap", 16); err == nil {
		if l, err := strconv.ParseUint(strings.TrimSpace(string(last)), 10, 6); err == nil && l < 63 {
			known = uint64(1)<<(l+1) - 1
		}
	}
	switch n & known {
	case 0:
		return "none"
	case known:
		return "full"
	}
	var names []string
	for i, name := range all {
		if n&(1<<i) != 0 {
			names = append(names, strings.TrimPrefix(name, "CAP_"))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// Printable replaces what could command a terminal: names and arguments are
// the container's to choose.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
