// Package top shows the processes of a container as podman-top(1) does, from what
// proc(5) tells of them.
package top

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// defaults are podman's default columns.
var defaults = [...]string{"user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"}

// Columns are what to show of each process, in this order.
type Columns []column

// column is one thing that top can tell of a process: podman-top(1), "Format
// descriptors". code is what ps(1) calls it in AIX formats.
type column struct {
	name, code, header string
	show               func(t *table, p *process) string
}

func all() []column {
	return []column{
		{"args", "%a", "COMMAND", func(_ *table, p *process) string { return p.args }},
		{"capamb", "", "AMBIENT CAPS", func(_ *table, p *process) string { return capText(p.status["CapAmb"]) }},
		{"capbnd", "", "BOUNDING CAPS", func(_ *table, p *process) string { return capText(p.status["CapBnd"]) }},
		{"capeff", "", "EFFECTIVE CAPS", func(_ *table, p *process) string { return capText(p.status["CapEff"]) }},
		{"capinh", "", "INHERITED CAPS", func(_ *table, p *process) string { return capText(p.status["CapInh"]) }},
		{"capprm", "", "PERMITTED CAPS", func(_ *table, p *process) string { return capText(p.status["CapPrm"]) }},
		{"comm", "%c", "COMMAND", func(_ *table, p *process) string { return p.comm }},
		{"etime", "%t", "ELAPSED", func(t *table, p *process) string { return t.elapsed(p).String() }},
		{"group", "%G", "GROUP", func(t *table, p *process) string { return t.inside.group(t.gid(p.id("Gid", 1))) }},
		{"groups", "", "GROUPS", func(t *table, p *process) string {
			return p.groups(func(id uint32) string { return t.inside.group(t.gid(id)) })
		}},
		{"hgroup", "", "HGROUP", func(t *table, p *process) string { return t.outside.group(t.hostGID(p.id("Gid", 1))) }},
		{"hgroups", "", "HGROUPS", func(t *table, p *process) string {
			return p.groups(func(id uint32) string { return t.outside.group(t.hostGID(id)) })
		}},
		{"hpid", "", "HPID", func(_ *table, p *process) string { return strconv.Itoa(p.pid) }},
		{"huser", "", "HUSER", func(t *table, p *process) string { return t.outside.user(t.hostUID(p.id("Uid", 1))) }},
		{"label", "", "LABEL", func(_ *table, p *process) string { return p.label }},
		{"nice", "%n", "NI", func(_ *table, p *process) string { return p.stat[18] }},
		{"pcpu", "%C", "%CPU", func(t *table, p *process) string { return t.cpu(p) }},
		{"pgid", "%r", "PGID", func(_ *table, p *process) string { return p.inner("NSpgid", p.stat[4]) }},
		{"pid", "%p", "PID", func(_ *table, p *process) string { return p.inner("NSpid", strconv.Itoa(p.pid)) }},
		{"ppid", "%P", "PPID", func(t *table, p *process) string { return t.parent(p) }},
		{"rgroup", "%g", "RGROUP", func(t *table, p *process) string { return t.inside.group(t.gid(p.id("Gid", 0))) }},
		{"rss", "", "RSS", func(_ *table, p *process) string { return kibibytes(p.stat[23], uint64(os.Getpagesize())) }},
		{"ruser", "%u", "RUSER", func(t *table, p *process) string { return t.inside.user(t.uid(p.id("Uid", 0))) }},
		{"seccomp", "", "SECCOMP", func(_ *table, p *process) string {
			return map[string]string{"0": "disabled", "1": "strict", "2": "filter"}[p.status["Seccomp"]]
		}},
		{"state", "", "STATE", func(_ *table, p *process) string { return p.stat[2] }},
		{"stime", "", "STIME", func(t *table, p *process) string { return t.started(p).Format("2006-01-02 15:04:05 -0700 MST") }},
		{"time", "%x", "TIME", func(_ *table, p *process) string { return p.cpuTime().String() }},
		{"tty", "%y", "TTY", func(_ *table, p *process) string { return ttyName(p.stat[6]) }},
		{"user", "%U", "USER", func(t *table, p *process) string { return t.inside.user(t.uid(p.id("Uid", 1))) }},
		{"vsz", "%z", "VSZ", func(_ *table, p *process) string { return kibibytes(p.stat[22], 1) }},
	}
}

// Choose finds the columns of descriptors, each of which may hold several, joined
// by commas; of none those that podman shows. The error is of kind cove.Invalid.
func Choose(descriptors []string) (Columns, error) {
	if len(descriptors) == 0 {
		descriptors = defaults[:]
	}
	all := all()
	var out Columns
	for _, list := range descriptors {
		for d := range strings.SplitSeq(list, ",") {
			i := slices.IndexFunc(all, func(c column) bool { return d != "" && (c.name == d || c.code == d || d == c.header && d[0] == '%') })
			if i < 0 {
				return nil, cove.E("", "", cove.Invalid, fmt.Errorf("unknown descriptor %q", d))
			}
			out = append(out, all[i])
		}
	}
	return out, nil
}
