package top

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/cove-engine/cove/internal/procfs"
)

// process is what /proc tells of a process. stat are the fields of
// proc_pid_stat(5), the first one at 0; status are the lines of
// proc_pid_status(5).
type process struct {
	pid               int
	comm, args, label string
	stat              []string
	status            map[string]string
}

// statFields is how many fields of stat are shown.
const statFields = 24

func readProcess(pid int) (*process, bool) {
	d, ok := procfs.OpenDirectory(pid)
	if !ok {
		return nil, false
	}
	defer d.Close()
	p := &process{pid: pid, status: map[string]string{}}
	stat, err := d.Read("stat", 64<<10)
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if err != nil || open < 0 || end < open {
		return nil, false // gone in between
	}
	p.comm = string(stat[open+1 : end])
	p.stat = append([]string{strconv.Itoa(pid), p.comm}, strings.Fields(string(stat[end+1:]))...)
	status, err := d.Read("status", 64<<10)
	if err != nil || len(p.stat) < statFields {
		return nil, false
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			p.status[k] = strings.TrimSpace(v)
		}
	}
	args, _ := d.Read("cmdline", 128<<10)
	p.args = strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")
	if p.args == "" {
		p.args = "[" + p.comm + "]"
	}
	label, _ := d.Read("attr/current", 4096)
	if p.label = strings.TrimRight(string(label), "\x00\n"); p.label == "" {
		p.label = "?"
	}
	return p, true
}

func (p *process) number(field int) uint64 {
	n, _ := strconv.ParseUint(p.stat[field], 10, 64)
	return n
}

func (p *process) cpuTime() time.Duration {
	return time.Duration(p.number(13)+p.number(14)) * time.Second / procfs.UserHZ
}

// id is one of the four IDs of a status line: real, effective, saved, file
// system.
func (p *process) id(line string, which int) uint32 {
	fields := strings.Fields(p.status[line])
	if len(fields) <= which {
		return 0
	}
	n, _ := strconv.ParseUint(fields[which], 10, 32)
	return uint32(n)
}

func (p *process) groups(name func(uint32) string) string {
	var all []string
	for _, f := range strings.Fields(p.status["Groups"]) {
		if n, err := strconv.ParseUint(f, 10, 32); err == nil {
			all = append(all, name(uint32(n)))
		}
	}
	return strings.Join(all, ",")
}

// inner is a number as the innermost pid namespace has it.
func (p *process) inner(line, otherwise string) string {
	fields := strings.Fields(p.status[line])
	if len(fields) == 0 {
		return otherwise
	}
	return fields[len(fields)-1]
}
