package top

import (
	"strconv"
	"time"

	"github.com/cove-engine/cove/internal/procfs"
)

// Rows gives a row of headers and one for each of the processes, of a container
// whose first one is init; those that have ended meanwhile are left out. rootless
// tells that cove itself is in a user namespace that is not the host's.
func (columns Columns) Rows(init int, pids []int, rootless bool) [][]string {
	t := newTable(init)
	if rootless {
		// IDs are shown to us as they are inside; the host's are others.
		t.uids, t.gids = nil, nil
		t.hostUIDs, t.hostGIDs = procfs.OwnIDMap("uid_map"), procfs.OwnIDMap("gid_map")
	}
	for _, pid := range pids {
		if p, ok := readProcess(pid); ok {
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
			row[i] = Printable(col.show(t, p))
		}
		rows = append(rows, row)
	}
	return rows
}

// table is the processes of a container and what is needed to show them.
type table struct {
	processes       []*process
	inside, outside accounts
	uids, gids      procfs.IDMap // of the container, seen from here
	// hostUIDs and hostGIDs are of the namespace that cove itself is in.
	hostUIDs, hostGIDs procfs.IDMap
	boot, now          time.Time
}

func newTable(init int) *table {
	t := &table{now: time.Now(), outside: accounts{users: hostAccounts("/etc/passwd"), groups: hostAccounts("/etc/group")}}
	if up, ok := procfs.Uptime(); ok {
		t.boot = t.now.Add(-up)
	}
	p, ok := procfs.OpenDirectory(init)
	if !ok {
		return t
	}
	defer p.Close()
	for name, to := range map[string]*procfs.IDMap{"uid_map": &t.uids, "gid_map": &t.gids} {
		if data, err := p.Read(name, 64<<10); err == nil {
			*to = procfs.ParseIDMap(data)
		}
	}
	t.inside = accounts{users: innerAccounts(p, "etc/passwd"), groups: innerAccounts(p, "etc/group")}
	return t
}

func (t *table) uid(host uint32) uint32 { return t.uids.ToInside(host) }
func (t *table) gid(host uint32) uint32 { return t.gids.ToInside(host) }

func (t *table) hostUID(here uint32) uint32 { return t.hostUIDs.ToOutside(here) }
func (t *table) hostGID(here uint32) uint32 { return t.hostGIDs.ToOutside(here) }

func (t *table) started(p *process) time.Time {
	return t.boot.Add(time.Duration(p.number(21)) * time.Second / procfs.UserHZ)
}

func (t *table) elapsed(p *process) time.Duration {
	return max(t.now.Sub(t.started(p)), 0)
}

// cpu is the share of one processor since the process began, in per cent.
func (t *table) cpu(p *process) string {
	if t.elapsed(p) == 0 {
		return "0.000"
	}
	return strconv.FormatFloat(100*float64(p.cpuTime())/float64(t.elapsed(p)), 'f', 3, 64)
}

// parent is the parent's number inside the container; 0 when the parent is
// outside.
func (t *table) parent(p *process) string {
	for _, other := range t.processes {
		if strconv.Itoa(other.pid) == p.stat[3] {
			return other.inner("NSpid", p.stat[3])
		}
	}
	return "0"
}
