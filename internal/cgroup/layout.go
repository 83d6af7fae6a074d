package cgroup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// standard is where every distribution mounts the hierarchies.
const standard = "/sys/fs/cgroup"

// Layout is how this host's cgroup file systems are mounted, as far as the
// caller sees them.
type Layout struct {
	// Unified says pure version 2: one hierarchy, at Mount.
	Unified bool
	// Mount is the mount point of version 2; on a hybrid host that of its
	// hierarchy without controllers; "" when there is none.
	Mount string
	// Hierarchies are those of version 1, named ones too; none when Unified.
	Hierarchies []Hierarchy
	// Controllers are those that version 2 can give to cgroups made below
	// Base; none on a hybrid host.
	Controllers []string
	// Base is the cgroup, relative to Mount, that paths begin in: "" for
	// root, the topmost delegated one above the caller for a user.
	Base string
	// Writable says that cgroups can be made below Base of version 2.
	Writable bool
	// NSDelegate says that version 2 is mounted with that option: cgroup
	// namespaces then keep their members from the limits of their root.
	NSDelegate bool
	// Nested says that Mount shows the inside of a cgroup namespace and that
	// the caller is in its root: processes have to leave it before
	// controllers can be given to its children.
	Nested bool
	// Rootless says that the caller has no power over the host: not user 0,
	// or user 0 of a user namespace only.
	Rootless bool
}

// Hierarchy is one mounted hierarchy of version 1.
type Hierarchy struct {
	Name        string   // directory name below /sys/fs/cgroup: cpu, "cpu,cpuacct", systemd
	Controllers []string // cpu, cpuacct; "name=systemd" of a named one
	Mount       string   // mount point, absolute
	Writable    bool     // cgroups can be made in it
	Own         string   // directory of the caller's cgroup; "" when it is not to be seen
}

// Has tells whether a cgroup lies in the hierarchy of version 1 that has the controller.
func (l Layout) Has(dir, controller string) bool {
	return slices.ContainsFunc(l.Hierarchies, func(h Hierarchy) bool {
		return strings.HasPrefix(dir, h.Mount+"/") && slices.Contains(h.Controllers, controller)
	})
}

// hybrid reports whether cgroups are also made in a version 2 hierarchy that
// only groups: systemd keeps account of its units there, and its cgroup.kill
// ends all members at once.
func (l Layout) hybrid() bool { return !l.Unified && l.Mount != "" && l.Writable }

// Detect reads the layout from the caller's own mounts and membership. It
// costs about 0.1 ms; what it says stays true as long as nobody mounts or
// delegates.
func Detect() (Layout, error) {
	fail := func(err error) (Layout, error) { return Layout{}, cove.E("find cgroups", "", kind(err), err) }
	own, err := readFile("/proc/self/cgroup", 1<<20)
	if err != nil {
		return fail(err)
	}
	fd, err := open("/proc/self/mountinfo", unix.O_RDONLY)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	l, root, self, err := parse(descriptor(fd), own)
	if err != nil {
		return fail(err)
	}
	if len(l.Hierarchies) == 0 && l.Mount == "" {
		return Layout{}, cove.E("find cgroups", "", cove.Unavailable, errors.New("no cgroup file system is mounted"))
	}
	l.Rootless = rootless()
	for i := range l.Hierarchies {
		l.Hierarchies[i].Writable = writable(l.Hierarchies[i].Mount)
	}
	if l.Mount != "" {
		l.delegation(root, self)
	}
	return l, nil
}

// Own is the caller's cgroup of version 2, as a path that [Layout.Set] takes. One
// outside of Base is an error, Unavailable.
func (l Layout) Own() (string, error) {
	text, err := readFile("/proc/self/cgroup", 1<<20)
	if err != nil {
		return "", cove.E("find cgroup", "/proc/self/cgroup", kind(err), err)
	}
	for line := range strings.Lines(string(text)) {
		if at, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			if own, ok := beneath(path.Join("/", l.Base), at); ok && l.Mount != "" {
				return own, nil
			}
		}
	}
	return "", cove.E("find cgroup", "", cove.Unavailable, errors.New("the caller's is none that can be divided"))
}

// descriptor reads without the runtime's poller, which costs more than it.
type descriptor int

func (d descriptor) Read(b []byte) (n int, err error) {
	err = again(func() (err error) { n, err = unix.Read(int(d), b); return err })
	if err == nil && n == 0 && len(b) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// delegation finds out where in version 2 the caller may make cgroups. root
// is the cgroup that is mounted at Mount, self the caller's.
func (l *Layout) delegation(root, self string) {
	below, known := beneath(root, self)
	if l.Writable = writable(l.Mount); !l.Writable && known && l.Unified && l.Rootless {
		// The topmost cgroup that is ours: processes can only be moved
		// between cgroups below one whose cgroup.procs we may write.
		for at := below; at != "/" && delegated(l.Mount+at); at = path.Dir(at) {
			l.Base, l.Writable = at, true
		}
	}
	if !l.Unified {
		return
	}
	// The real root has no cgroup.type.
	inner := unix.Access(l.Mount+l.Base+"/cgroup.type", unix.F_OK) == nil
	l.Nested = l.Base == "" && inner && below == "/"
	list := "/cgroup.controllers"
	if inner && !l.Nested && below == path.Join("/", l.Base) {
		// A cgroup with members can pass on only what it already does.
		list = "/cgroup.subtree_control"
	}
	if text, err := readFile(l.Mount+l.Base+list, 4096); err == nil {
		l.Controllers = strings.Fields(string(text))
	}
}

// Under is the layout for cgroups that somebody has made below base, who may have
// been another user or in another cgroup than the caller; "" is the caller's own.
func (l Layout) Under(base string) Layout {
	if base == "" || base == l.Base {
		return l
	}
	l.Base, l.Writable, l.Nested, l.Controllers = base, true, false, nil
	if text, err := readFile(l.Mount+base+"/cgroup.subtree_control", 4096); err == nil {
		l.Controllers = strings.Fields(string(text))
	}
	return l
}

// writable reports whether the caller can make directories in dir, by
// permission and by mount.
func writable(dir string) bool {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK, unix.AT_EACCESS) == nil
}

// delegated reports whether a version 2 cgroup is the caller's to divide.
func delegated(dir string) bool {
	return writable(dir) && writable(dir+"/cgroup.procs") && writable(dir+"/cgroup.subtree_control")
}

// rootless reports whether the caller lacks power over the host's devices.
func rootless() bool {
	if os.Geteuid() != 0 {
		return true
	}
	m, err := readFile("/proc/self/uid_map", 4096)
	if err != nil {
		return false // no user namespaces in this kernel
	}
	f := bytes.Fields(m)
	return len(f) != 3 || string(f[0]) != "0" || string(f[1]) != "0" || string(f[2]) != "4294967295"
}

// parse reads mountinfo until every hierarchy of the caller's membership
// (/proc/self/cgroup) has been seen at its standard place: with thousands of
// mounts the rest is not worth reading. root is what is mounted at Mount,
// self the caller's version 2 cgroup.
func parse(mountinfo io.Reader, membership []byte) (l Layout, root, self string, err error) {
	wanted := map[string]bool{} // by controllers; "" is version 2
	members := map[string]string{}
	for line := range strings.Lines(string(membership)) {
		// hierarchy-ID:controllers:path
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		name, at, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			continue
		}
		wanted[name] = true
		members[name] = at
		if name == "" {
			self = at
		}
	}
	spare := map[string]mount{}
	in := lines{r: mountinfo}
	for len(wanted) > 0 {
		line, ok := in.next()
		if !ok {
			break
		}
		m, ok := parseMount(line)
		if !ok {
			continue
		}
		name := ""
		if !m.v2 {
			if name = match(wanted, m.options); name == "" {
				continue
			}
		}
		switch {
		case m.v2 && m.point == standard:
			l = Layout{Unified: true}
			root = l.add("", m, root, "")
			return l, root, self, in.err
		case !wanted[name]:
		case strings.HasPrefix(m.point, standard+"/"):
			delete(wanted, name)
			delete(spare, name)
			root = l.add(name, m, root, members[name])
		case spare[name].point == "":
			spare[name] = m
		}
	}
	for name, m := range spare {
		root = l.add(name, m, root, members[name])
	}
	slices.SortFunc(l.Hierarchies, func(a, b Hierarchy) int { return strings.Compare(a.Mount, b.Mount) })
	l.Unified = l.Mount != "" && len(l.Hierarchies) == 0
	return l, root, self, in.err
}

func (l *Layout) add(name string, m mount, root, at string) string {
	if m.v2 {
		l.Mount, l.NSDelegate = m.point, slices.Contains(strings.Split(m.options, ","), "nsdelegate")
		return m.root
	}
	h := Hierarchy{Name: path.Base(m.point), Controllers: strings.Split(name, ","), Mount: m.point}
	if below, ok := beneath(m.root, at); ok {
		h.Own = path.Join(m.point, below)
	}
	l.Hierarchies = append(l.Hierarchies, h)
	return root
}

// match finds the wanted hierarchy that a version 1 mount shows. Its super
// options hold the same controllers, in any order, among other words.
func match(wanted map[string]bool, options string) string {
	have := strings.Split(options, ",")
	for name := range wanted {
		all := name != ""
		for c := range strings.SplitSeq(name, ",") {
			all = all && slices.Contains(have, c)
		}
		if all {
			return name
		}
	}
	return ""
}

// mount is a cgroup mount of mountinfo, proc_pid_mountinfo(5).
type mount struct {
	root, point, options string
	v2                   bool
}

func parseMount(line []byte) (mount, bool) {
	_, after, ok := bytes.Cut(line, []byte(" - cgroup"))
	if !ok {
		return mount{}, false
	}
	head, tail := strings.Fields(string(line)), strings.Fields(string(after))
	v2 := bytes.HasPrefix(after, []byte("2 "))
	if v2 {
		tail = tail[1:]
	}
	if len(head) < 6 || len(tail) != 2 || !v2 && !bytes.HasPrefix(after, []byte(" ")) {
		return mount{}, false
	}
	return mount{root: unescape(head[3]), point: unescape(head[4]), options: tail[1], v2: v2}, true
}

// unescape undoes the kernel's octal escapes of space, tab, newline and
// backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// beneath gives at relative to root, with a leading slash.
func beneath(root, at string) (string, bool) {
	if root == "/" {
		root = ""
	}
	rest, ok := strings.CutPrefix(at, root)
	if !ok || rest != "" && rest[0] != '/' || strings.HasPrefix(rest, "/..") {
		return "", false
	}
	if rest == "" {
		rest = "/"
	}
	return rest, true
}

// hierarchy gives the version 1 hierarchy of a controller.
func (l Layout) hierarchy(controller string) (Hierarchy, bool) {
	for _, h := range l.Hierarchies {
		if slices.Contains(h.Controllers, controller) {
			return h, true
		}
	}
	return Hierarchy{}, false
}
