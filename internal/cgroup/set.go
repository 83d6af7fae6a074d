package cgroup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
)

// Set is one container's (or pod's) cgroups with their limits. It is data: it
// may be stored and carried out by another process. The empty Set is valid
// and means that no cgroups are made.
type Set struct {
	// Dirs are the container's cgroups, one per hierarchy, absolute.
	Dirs []string `json:"dirs,omitempty"`
	// Parents are the cgroups above them, uppermost first, that Make makes
	// when they are missing and Remove leaves.
	Parents []Parent `json:"parents,omitempty"`
	// Unified is the one of Dirs that is of version 2.
	Unified string `json:"unified,omitempty"`
	// Cpuset is the one of Dirs that lies in a version 1 cpuset hierarchy,
	// which admits no process before it has processors and memory nodes.
	Cpuset string `json:"cpuset,omitempty"`
	// Enable are the version 2 controllers that Dirs need from above.
	Enable []string `json:"enable,omitempty"`
	// Writes are the limits, in the order in which they are set.
	Writes []Write `json:"writes,omitempty"`
	// Devices is the version 2 device program: an array of struct bpf_insn.
	Devices []byte `json:"devices,omitempty"`
	// MemoryBelow, if not 0, makes Apply refuse when the memory in use is
	// above it: bytes, from linux.resources.memory.checkBeforeUpdate.
	MemoryBelow int64 `json:"memoryBelow,omitempty"`
	// Shared says that the path is a caller's, who may have cgroups below it:
	// Make refuses (InUse) where there are any.
	Shared bool `json:"shared,omitempty"`
}

// Parent is a cgroup above a container's.
type Parent struct {
	Dir string `json:"dir"`
	// Cpuset says that it lies in a version 1 cpuset hierarchy: it gets its
	// own parent's processors and memory nodes, and its children inherit them.
	Cpuset bool `json:"cpuset,omitempty"`
	// Enable are the version 2 controllers that it passes on.
	Enable []string `json:"enable,omitempty"`
	// Visible says that it is the visible root, which is never made.
	Visible bool `json:"visible,omitempty"`
	// Empty says that its members move to a child of it (init) when they
	// stand in the way of Enable: the root of a cgroup namespace.
	Empty bool `json:"empty,omitempty"`
}

// Write is one value for one file.
type Write struct {
	File     string `json:"file"` // absolute
	Value    string `json:"value"`
	Optional bool   `json:"optional,omitempty"` // a missing file or a refusal is tolerated
	// Else is done instead where this kernel lacks File.
	Else *Write `json:"else,omitempty"`
	// Field is what asked for it, for errors.
	Field string `json:"field,omitempty"`
}

// Set plans the cgroups at p, "/cove/ID", with r's limits; it reads nothing.
// The warnings, one line each, are for limits that this host cannot set; a
// value that no host can set is an error of kind Invalid that has the field's
// name. An empty p is a container without cgroups.
//
// Device rules are obeyed in their order, the last match wins, and what no
// rule matches is denied; the devices of [DefaultDevices] are allowed after
// them. No rules at all leave devices alone, and so do those of a caller who
// cannot make device nodes anyway (Rootless). Where rules cannot be imposed on
// one who can, Set refuses (Unsupported).
func (l Layout) Set(p string, r *specs.LinuxResources) (Set, []string, error) {
	return plan{l: l, r: r}.make(p)
}

// SetAll is Set for who has promised every limit, as an OCI runtime has: one
// that this host cannot set is an error, Unsupported, that has the field's name.
// Warnings are left for what means nothing to any kernel of today.
func (l Layout) SetAll(p string, r *specs.LinuxResources) (Set, []string, error) {
	return plan{l: l, r: r, all: true}.make(p)
}

// pidsMax is the file of the limit of tasks.
const pidsMax = "pids.max"

// Tasks takes the limit of tasks out of s and gives it alone, for Apply: what makes
// a container may have more threads than its command is allowed.
func (s *Set) Tasks() Set {
	var tasks Set
	isLimit := func(w Write) bool { return path.Base(w.File) == pidsMax }
	for _, w := range s.Writes {
		if isLimit(w) {
			tasks.Writes = append(tasks.Writes, w)
		}
	}
	s.Writes = slices.DeleteFunc(slices.Clone(s.Writes), isLimit)
	return tasks
}

func (pl plan) make(p string) (Set, []string, error) {
	if p == "" {
		return Set{}, nil, nil
	}
	if err := checkPath(p); err != nil {
		return Set{}, nil, err
	}
	if pl.r == nil {
		pl.r = &specs.LinuxResources{}
	}
	if pl.l.Unified {
		pl.unified(p)
	} else {
		pl.legacy(p)
	}
	if pl.err != nil {
		return Set{}, nil, pl.err
	}
	return pl.set, pl.warnings, nil
}

func checkPath(p string) error {
	bad := func(why string) error { return cove.E("cgroup path", p, cove.Invalid, errors.New(why)) }
	switch {
	case !path.IsAbs(p):
		return bad("must be absolute")
	case path.Clean(p) != p:
		return bad("must have neither dots nor doubled slashes")
	case p == "/":
		return bad("the root cannot be a container's cgroup")
	case strings.ContainsAny(p, "\x00\n"):
		return bad("has an unprintable character")
	}
	return nil
}

// plan is a Set being made. The first error stays.
type plan struct {
	l        Layout
	r        *specs.LinuxResources
	set      Set
	dirs     map[string]string // version 1: controller to directory
	warnings []string
	all      bool // see SetAll
	err      error
}

func (p *plan) invalid(field, format string, args ...any) {
	if p.err == nil {
		p.err = cove.E("", resources+field, cove.Invalid, fmt.Errorf(format, args...))
	}
}

func (p *plan) unsupported(field, format string, args ...any) {
	if p.err == nil {
		p.err = cove.E("", resources+field, cove.Unsupported, fmt.Errorf(format, args...))
	}
}

func (p *plan) warn(field, format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	if field != "" {
		w = resources + field + ": " + w
	}
	if !slices.Contains(p.warnings, w) {
		p.warnings = append(p.warnings, w)
	}
}

// unable tells of a limit that this host cannot set.
func (p *plan) unable(field, format string, args ...any) {
	if p.all {
		p.unsupported(field, format, args...)
	} else {
		p.warn(field, format+"; ignored", args...)
	}
}

// resources is where the fields are in an OCI spec.
const resources = "linux.resources."

// dir gives the directory for a controller's files; where there is none it says so.
func (p *plan) dir(controller, field string) (string, bool) {
	if p.l.Unified {
		if len(p.set.Dirs) > 0 && slices.Contains(p.l.Controllers, controller) {
			return p.set.Dirs[0], true
		}
	} else if d, ok := p.dirs[controller]; ok {
		return d, true
	}
	if p.l.Rootless {
		p.unable(field, "the cgroup controller %s is not delegated to this user", controller)
	} else {
		p.unable(field, "the cgroup controller %s is not to be had on this host", controller)
	}
	return "", false
}

// put plans one write.
func (p *plan) put(controller, field, file, value string) *Write {
	d, ok := p.dir(controller, field)
	if !ok {
		return &Write{} // written to in vain
	}
	p.set.Writes = append(p.set.Writes, Write{File: d + "/" + file, Value: value, Field: resources + field})
	return &p.set.Writes[len(p.set.Writes)-1]
}

// legacy plans for version 1, hybrid too.
func (p *plan) legacy(at string) {
	p.dirs = map[string]string{}
	for _, h := range p.l.Hierarchies {
		if !h.Writable {
			continue
		}
		d := h.Mount + at
		p.set.Dirs = append(p.set.Dirs, d)
		cpuset := slices.Contains(h.Controllers, "cpuset")
		if cpuset {
			p.set.Cpuset = d
		}
		for _, above := range ancestors(at) {
			p.set.Parents = append(p.set.Parents, Parent{Dir: h.Mount + above, Cpuset: cpuset})
		}
		for _, c := range h.Controllers {
			p.dirs[c] = d
		}
	}
	if p.l.hybrid() {
		p.set.Unified = p.l.Mount + at
		p.set.Dirs = append(p.set.Dirs, p.set.Unified)
		for _, above := range ancestors(at) {
			p.set.Parents = append(p.set.Parents, Parent{Dir: p.l.Mount + above})
		}
	}
	if len(p.set.Dirs) == 0 && !p.l.Rootless {
		p.unwritable()
		return
	}
	p.legacyDevices()
	p.legacyMemory()
	p.legacyCPU()
	p.cpusets()
	p.pids()
	p.legacyIO()
	p.hugepages("limit_in_bytes")
	p.network()
	p.rdma()
	if len(p.r.Unified) > 0 {
		p.unsupported("unified", "this host's cgroups are version 1")
	}
}

// unified plans for pure version 2.
func (p *plan) unified(at string) {
	switch {
	case p.l.Writable:
		top := p.l.Mount + p.l.Base
		p.set.Unified = top + at
		p.set.Dirs = []string{p.set.Unified}
		p.set.Enable = slices.Clone(p.l.Controllers)
		p.set.Parents = []Parent{{Dir: top, Enable: p.set.Enable, Visible: true, Empty: p.l.Nested}}
		for _, above := range ancestors(at) {
			p.set.Parents = append(p.set.Parents, Parent{Dir: top + above, Enable: p.set.Enable})
		}
	case !p.l.Rootless:
		p.unwritable()
		return
	default:
		p.warn("", "no cgroup is delegated to this user: the container stays in the caller's")
	}
	p.unifiedDevices()
	p.unifiedMemory()
	p.unifiedCPU()
	p.cpusets()
	p.pids()
	p.unifiedIO()
	p.hugepages("max")
	if n := p.r.Network; n != nil && (n.ClassID != nil || len(n.Priorities) > 0) {
		p.unable("network", "cgroup version 2 has no network controllers")
	}
	p.rdma()
	p.unifiedMap()
}

func (p *plan) unwritable() {
	p.err = cove.E("plan cgroups", "", cove.Denied, errors.New("the cgroup file systems are mounted read-only or belong to somebody else"))
}

// ancestors lists the cgroups above at, uppermost first, without the root.
func ancestors(at string) []string {
	var up []string
	for i := 1; i < len(at); i++ {
		if at[i] == '/' {
			up = append(up, at[:i])
		}
	}
	return up
}
