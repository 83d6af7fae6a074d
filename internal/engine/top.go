package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/capability"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/procfs"
)

// topDefault are podman's default columns.
var topDefault = [...]string{"user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"}

// topColumn is one thing that top can tell of a process: podman-top(1), "Format
// descriptors".
type topColumn struct {
	name, code, header string
	show               func(t *topTable, p *topProcess) string
}

// topColumns lists them all; code is what ps(1) calls it in AIX formats.
func topColumns() []topColumn {
	return []topColumn{
		{"args", "%a", "COMMAND", func(_ *topTable, p *topProcess) string { return p.args }},
		{"capamb", "", "AMBIENT CAPS", func(_ *topTable, p *topProcess) string { return capText(p.status["CapAmb"]) }},
		{"capbnd", "", "BOUNDING CAPS", func(_ *topTable, p *topProcess) string { return capText(p.status["CapBnd"]) }},
		{"capeff", "", "EFFECTIVE CAPS", func(_ *topTable, p *topProcess) string { return capText(p.status["CapEff"]) }},
		{"capinh", "", "INHERITED CAPS", func(_ *topTable, p *topProcess) string { return capText(p.status["CapInh"]) }},
		{"capprm", "", "PERMITTED CAPS", func(_ *topTable, p *topProcess) string { return capText(p.status["CapPrm"]) }},
		{"comm", "%c", "COMMAND", func(_ *topTable, p *topProcess) string { return p.comm }},
		{"etime", "%t", "ELAPSED", func(t *topTable, p *topProcess) string { return t.elapsed(p).String() }},
		{"group", "%G", "GROUP", func(t *topTable, p *topProcess) string { return t.inside.group(t.gid(p.id("Gid", 1))) }},
		{"groups", "", "GROUPS", func(t *topTable, p *topProcess) string {
			return p.groups(func(id uint32) string { return t.inside.group(t.gid(id)) })
		}},
		{"hgroup", "", "HGROUP", func(t *topTable, p *topProcess) string { return t.outside.group(t.hostGID(p.id("Gid", 1))) }},
		{"hgroups", "", "HGROUPS", func(t *topTable, p *topProcess) string {
			return p.groups(func(id uint32) string { return t.outside.group(t.hostGID(id)) })
		}},
		{"hpid", "", "HPID", func(_ *topTable, p *topProcess) string { return strconv.Itoa(p.pid) }},
		{"huser", "", "HUSER", func(t *topTable, p *topProcess) string { return t.outside.user(t.hostUID(p.id("Uid", 1))) }},
		{"label", "", "LABEL", func(_ *topTable, p *topProcess) string { return p.label }},
		{"nice", "%n", "NI", func(_ *topTable, p *topProcess) string { return p.stat[18] }},
		{"pcpu", "%C", "%CPU", func(t *topTable, p *topProcess) string { return t.cpu(p) }},
		{"pgid", "%r", "PGID", func(_ *topTable, p *topProcess) string { return p.inner("NSpgid", p.stat[4]) }},
		{"pid", "%p", "PID", func(_ *topTable, p *topProcess) string { return p.inner("NSpid", strconv.Itoa(p.pid)) }},
		{"ppid", "%P", "PPID", func(t *topTable, p *topProcess) string { return t.parent(p) }},
		{"rgroup", "%g", "RGROUP", func(t *topTable, p *topProcess) string { return t.inside.group(t.gid(p.id("Gid", 0))) }},
		{"rss", "", "RSS", func(_ *topTable, p *topProcess) string { return kibibytes(p.stat[23], uint64(os.Getpagesize())) }},
		{"ruser", "%u", "RUSER", func(t *topTable, p *topProcess) string { return t.inside.user(t.uid(p.id("Uid", 0))) }},
		{"seccomp", "", "SECCOMP", func(_ *topTable, p *topProcess) string {
			return map[string]string{"0": "disabled", "1": "strict", "2": "filter"}[p.status["Seccomp"]]
		}},
		{"state", "", "STATE", func(_ *topTable, p *topProcess) string { return p.stat[2] }},
		{"stime", "", "STIME", func(t *topTable, p *topProcess) string { return t.started(p).Format("2006-01-02 15:04:05 -0700 MST") }},
		{"time", "%x", "TIME", func(_ *topTable, p *topProcess) string { return p.cpuTime().String() }},
		{"tty", "%y", "TTY", func(_ *topTable, p *topProcess) string { return ttyName(p.stat[6]) }},
		{"user", "%U", "USER", func(t *topTable, p *topProcess) string { return t.inside.user(t.uid(p.id("Uid", 1))) }},
		{"vsz", "%z", "VSZ", func(_ *topTable, p *topProcess) string { return kibibytes(p.stat[22], 1) }},
	}
}

// Top gives a header row and one row per process of a running container.
// Descriptors are podman's, each may hold several, joined by commas; anything
// else is passed to the container's own ps.
func (e *Engine) Top(ctx context.Context, nameOrID string, descriptors []string) ([][]string, error) {
	c, err := e.Container(ctx, nameOrID, false)
	if err != nil {
		return nil, err
	}
	if c.Run.PID == 0 {
		return nil, cove.E("", "", cove.WrongStatus, errors.New("top can only be used on running containers"))
	}
	if f, err := e.foreign(&c.Container); err == nil && f != nil && ownKernel(f.Runtime[0]) {
		return e.innerPs(ctx, &c, innerColumns(descriptors))
	}
	columns, err := chooseColumns(descriptors)
	if err != nil {
		rows, perr := e.innerPs(ctx, &c, descriptors)
		if perr != nil {
			return nil, cove.E("", "", cove.KindOf(err), fmt.Errorf("%w; and the container's ps: %w", err, perr))
		}
		return rows, nil
	}
	pids, err := e.pids(&c)
	if err != nil {
		return nil, err
	}
	t := newTopTable(c.Run.PID)
	if e.conf.Rootless {
		// IDs are shown to us as they are inside; the host's are others.
		t.uids, t.gids = nil, nil
		t.hostUIDs, t.hostGIDs = ownRanges("uid_map"), ownRanges("gid_map")
	}
	for _, pid := range pids {
		if p, ok := readTopProcess(pid); ok {
			t.processes = append(t.processes, p)
		}
	}
	header := make([]string, len(columns))
	for i, col := range columns {
		header[i] = col.header
	}
	rows := [][]string{header}
	for _, p := range t.processes {
		row := make([]string, len(columns))
		for i, col := range columns {
			row[i] = printable(col.show(t, p))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func chooseColumns(descriptors []string) ([]topColumn, error) {
	if len(descriptors) == 0 {
		descriptors = topDefault[:]
	}
	all := topColumns()
	var out []topColumn
	for _, list := range descriptors {
		for d := range strings.SplitSeq(list, ",") {
			i := slices.IndexFunc(all, func(c topColumn) bool { return d != "" && (c.name == d || c.code == d || d == c.header && d[0] == '%') })
			if i < 0 {
				return nil, cove.E("", "", cove.Invalid, fmt.Errorf("unknown descriptor %q", d))
			}
			out = append(out, all[i])
		}
	}
	return out, nil
}

// innerColumns asks a ps for the columns of descriptors, where only it sees the
// container's processes. Without any it is for the ones that every ps knows.
func innerColumns(descriptors []string) []string {
	if len(descriptors) == 0 {
		return []string{"-o", "user,pid,ppid,tty,args"}
	}
	if _, err := chooseColumns(descriptors); err != nil {
		return descriptors
	}
	return []string{"-o", strings.Join(descriptors, ",")}
}

// innerPs asks the ps of the container itself.
func (e *Engine) innerPs(ctx context.Context, c *Container, args []string) ([][]string, error) {
	var words []string
	for _, a := range args {
		words = append(words, strings.Fields(a)...)
	}
	var out, errs limitedBuffer
	r, err := e.Exec(ctx, c.ID, ExecSpec{Command: append([]string{"ps"}, words...)}, AttachOptions{Streams: Streams{Out: &out, Err: &errs}, NoStdin: true})
	if err != nil {
		return nil, err
	}
	if r.ExitCode != 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
		return nil, cove.E("", "", cove.Invalid, fmt.Errorf("exit code %d: %s", r.ExitCode, printable(line)))
	}
	return psRows(out.String()), nil
}

// psRows splits what ps has printed: the last column may hold blanks.
func psRows(text string) [][]string {
	var rows [][]string
	width := 0
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fields := strings.Fields(printable(line))
		if width == 0 {
			width = len(fields)
		}
		if width > 0 && len(fields) > width {
			fields = append(fields[:width-1:width-1], strings.Join(fields[width-1:], " "))
		}
		rows = append(rows, fields)
	}
	return rows
}

// limitedBuffer keeps the first MiB of what is written to it.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := 1<<20 - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// printable replaces what could command a terminal: names and arguments are
// the container's to choose.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// topTable is the processes of a container and what is needed to show them.
type topTable struct {
	processes       []*topProcess
	inside, outside accounts
	uids, gids      []idRange // of the container, seen from here
	// hostUIDs and hostGIDs are of the namespace that cove itself is in.
	hostUIDs, hostGIDs []idRange
	boot, now          time.Time
}

func newTopTable(init int) *topTable {
	t := &topTable{now: time.Now(), outside: accounts{users: hostAccounts("/etc/passwd"), groups: hostAccounts("/etc/group")}}
	var up unix.Sysinfo_t
	if unix.Sysinfo(&up) == nil {
		t.boot = t.now.Add(-uptime(&up))
	}
	p, ok := openProcess(init)
	if !ok {
		return t
	}
	defer p.close()
	for name, to := range map[string]*[]idRange{"uid_map": &t.uids, "gid_map": &t.gids} {
		if data, err := p.read(name, 64<<10); err == nil {
			*to = parseIDMap(data)
		}
	}
	t.inside = accounts{users: innerAccounts(p, "etc/passwd"), groups: innerAccounts(p, "etc/group")}
	return t
}

// uptime is taken from /proc/uptime, which is finer than sysinfo(2).
func uptime(si *unix.Sysinfo_t) time.Duration {
	if data, err := readProc("/proc/uptime", 128); err == nil {
		first, _, _ := strings.Cut(string(data), " ")
		if s, err := strconv.ParseFloat(first, 64); err == nil {
			return time.Duration(s * float64(time.Second))
		}
	}
	return time.Duration(si.Uptime) * time.Second
}

func (t *topTable) uid(host uint32) uint32 { return mapID(t.uids, host) }
func (t *topTable) gid(host uint32) uint32 { return mapID(t.gids, host) }

func (t *topTable) hostUID(here uint32) uint32 { return unmapID(t.hostUIDs, here) }
func (t *topTable) hostGID(here uint32) uint32 { return unmapID(t.hostGIDs, here) }

func (t *topTable) started(p *topProcess) time.Time {
	return t.boot.Add(time.Duration(p.number(21)) * time.Second / userHZ)
}

func (t *topTable) elapsed(p *topProcess) time.Duration {
	return max(t.now.Sub(t.started(p)), 0)
}

// cpu is the share of one processor since the process began, in per cent.
func (t *topTable) cpu(p *topProcess) string {
	if t.elapsed(p) == 0 {
		return "0.000"
	}
	return strconv.FormatFloat(100*float64(p.cpuTime())/float64(t.elapsed(p)), 'f', 3, 64)
}

// parent is the parent's number inside the container; 0 when the parent is
// outside.
func (t *topTable) parent(p *topProcess) string {
	for _, other := range t.processes {
		if strconv.Itoa(other.pid) == p.stat[3] {
			return other.inner("NSpid", p.stat[3])
		}
	}
	return "0"
}

// topProcess is what /proc tells of a process. stat are the fields of
// proc_pid_stat(5), the first one at 0; status are the lines of
// proc_pid_status(5).
type topProcess struct {
	pid               int
	comm, args, label string
	stat              []string
	status            map[string]string
}

// statFields is how many fields of stat are shown.
const statFields = 24

func readTopProcess(pid int) (*topProcess, bool) {
	d, ok := openProcess(pid)
	if !ok {
		return nil, false
	}
	defer d.close()
	p := &topProcess{pid: pid, status: map[string]string{}}
	stat, err := d.read("stat", 64<<10)
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if err != nil || open < 0 || end < open {
		return nil, false // gone in between
	}
	p.comm = string(stat[open+1 : end])
	p.stat = append([]string{strconv.Itoa(pid), p.comm}, strings.Fields(string(stat[end+1:]))...)
	status, err := d.read("status", 64<<10)
	if err != nil || len(p.stat) < statFields {
		return nil, false
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			p.status[k] = strings.TrimSpace(v)
		}
	}
	args, _ := d.read("cmdline", 128<<10)
	p.args = strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")
	if p.args == "" {
		p.args = "[" + p.comm + "]"
	}
	label, _ := d.read("attr/current", 4096)
	if p.label = strings.TrimRight(string(label), "\x00\n"); p.label == "" {
		p.label = "?"
	}
	return p, true
}

func (p *topProcess) number(field int) uint64 {
	n, _ := strconv.ParseUint(p.stat[field], 10, 64)
	return n
}

func (p *topProcess) cpuTime() time.Duration {
	return time.Duration(p.number(13)+p.number(14)) * time.Second / userHZ
}

// id is one of the four IDs of a status line: real, effective, saved, file
// system.
func (p *topProcess) id(line string, which int) uint32 {
	fields := strings.Fields(p.status[line])
	if len(fields) <= which {
		return 0
	}
	n, _ := strconv.ParseUint(fields[which], 10, 32)
	return uint32(n)
}

func (p *topProcess) groups(name func(uint32) string) string {
	var all []string
	for _, f := range strings.Fields(p.status["Groups"]) {
		if n, err := strconv.ParseUint(f, 10, 32); err == nil {
			all = append(all, name(uint32(n)))
		}
	}
	return strings.Join(all, ",")
}

// inner is a number as the innermost pid namespace has it.
func (p *topProcess) inner(line, otherwise string) string {
	fields := strings.Fields(p.status[line])
	if len(fields) == 0 {
		return otherwise
	}
	return fields[len(fields)-1]
}

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
	if last, err := readProc("/proc/sys/kernel/cap_last_cap", 16); err == nil {
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

// ownRanges reads this process's own map.
func ownRanges(name string) []idRange {
	data, err := readProc("/proc/self/"+name, 64<<10)
	if err != nil {
		return nil
	}
	return parseIDMap(data)
}

// unmapID is mapID's inverse.
func unmapID(ranges []idRange, inside uint32) uint32 {
	for _, r := range ranges {
		if inside >= r.inside && inside-r.inside < r.size {
			return r.outside + inside - r.inside
		}
	}
	return inside
}

// pids lists the processes of a running container: those of its cgroup or,
// where it could not have one, those of its process namespace. One that shares
// the host's has all that descend from its init.
func (e *Engine) pids(c *Container) ([]int, error) {
	dirs, err := e.cgroupDirs(&c.Container)
	if err != nil {
		return nil, err
	}
	if len(dirs) > 0 {
		return cgroup.Pids(dirs)
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, cove.E("list processes", c.Name, cove.Internal, err)
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	inner, err2 := os.Readlink("/proc/" + strconv.Itoa(c.Run.PID) + "/ns/pid")
	if err = errors.Join(err, err2); err != nil {
		return nil, cove.E("list processes", c.Name, cove.Internal, err)
	}
	members := map[int]bool{c.Run.PID: true}
	for again := true; again; {
		again = false
		for _, entry := range all {
			pid, err := strconv.Atoi(entry.Name())
			if err != nil || members[pid] {
				continue
			}
			if inner == own {
				members[pid] = members[procfs.Parent(pid)]
			} else if ns, err := os.Readlink("/proc/" + entry.Name() + "/ns/pid"); err == nil {
				members[pid] = ns == inner
			}
			again = again || inner == own && members[pid]
		}
	}
	var pids []int
	for pid, is := range members {
		if is {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// idRange is one line of uid_map or gid_map, user_namespaces(7).
type idRange struct{ inside, outside, size uint32 }

func parseIDMap(data []byte) []idRange {
	var all []idRange
	for line := range strings.SplitSeq(string(data), "\n") {
		var r idRange
		if n, err := fmt.Sscan(line, &r.inside, &r.outside, &r.size); err == nil && n == 3 {
			all = append(all, r)
		}
	}
	return all
}

// mapID gives an ID of the host's as the container sees it: the overflow ID,
// 65534, when it has none there.
func mapID(ranges []idRange, host uint32) uint32 {
	for _, r := range ranges {
		if host >= r.outside && host-r.outside < r.size {
			return r.inside + (host - r.outside)
		}
	}
	if len(ranges) == 0 {
		return host
	}
	return 65534
}

// accounts are names by ID; what has none is shown by its number.
type accounts struct{ users, groups map[uint32]string }

func (a accounts) user(id uint32) string  { return nameOr(a.users, id) }
func (a accounts) group(id uint32) string { return nameOr(a.groups, id) }

func nameOr(names map[uint32]string, id uint32) string {
	if name := names[id]; name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// accountsMax bounds passwd(5) and group(5) files, in bytes.
const accountsMax = 1 << 20

func hostAccounts(path string) map[uint32]string {
	data, err := readProc(path, accountsMax)
	if err != nil {
		return nil
	}
	return parseAccounts(data)
}

// innerAccounts reads a file of the container's, never one outside of its
// root, and only a regular one. A file system of the container's that does
// not answer is given up after a second.
func innerAccounts(p process, name string) map[uint32]string {
	root, err := unix.Openat(p.fd, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	answer := make(chan map[uint32]string, 1)
	go func() {
		defer unix.Close(root)
		data, err := readInRoot(root, name, accountsMax)
		if err != nil {
			data = nil
		}
		answer <- parseAccounts(data)
	}()
	select {
	case names := <-answer:
		return names
	case <-time.After(time.Second):
		return nil
	}
}

// readInRoot reads a regular file below root, which is hostile: names are
// resolved inside it, and nothing is opened before it is known to be a file.
func readInRoot(root int, name string, max int) ([]byte, error) {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	return readProc("/proc/self/fd/"+strconv.Itoa(fd), max)
}

// parseAccounts reads names by ID; the first of several names counts.
func parseAccounts(data []byte) map[uint32]string {
	names := map[uint32]string{}
	for line := range strings.SplitSeq(string(data), "\n") {
		fields := strings.SplitN(line, ":", 4)
		if len(fields) < 3 || fields[0] == "" {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, has := names[uint32(id)]; err == nil && !has {
			names[uint32(id)] = fields[0]
		}
	}
	return names
}
