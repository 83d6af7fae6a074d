package cgroup

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// anything is a rule's wildcard for a device number.
const anything = -1

// rule is a device rule with everything spelled out.
type rule struct {
	allow        bool
	kind         byte  // 'b', 'c'; 'a' only together with no numbers and all access
	major, minor int64 // or anything
	access       string
}

// all reports whether r decides about every device.
func (r rule) all() bool { return r.kind == 'a' }

// String words a rule for devices.allow and devices.deny.
func (r rule) String() string {
	if r.all() {
		// Whatever followed, the kernel would not read it.
		return "a"
	}
	n := func(v int64) string {
		if v == anything {
			return "*"
		}
		return number(v)
	}
	return string(r.kind) + " " + n(r.major) + ":" + n(r.minor) + " " + r.access
}

// DefaultDevices are the rules that every container with device rules gets
// after its own, as from runc and crun: any node may be made, and null, zero,
// full, random, urandom, tty, ptmx and pseudo terminals may be used.
func DefaultDevices() []specs.LinuxDeviceCgroup {
	var rules []specs.LinuxDeviceCgroup
	for _, r := range defaults() {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: string(r.kind), Access: r.access}
		if r.major != anything {
			d.Major = &r.major
		}
		if r.minor != anything {
			d.Minor = &r.minor
		}
		rules = append(rules, d)
	}
	return rules
}

func defaults() []rule {
	return []rule{
		{true, 'c', anything, anything, "m"},
		{true, 'b', anything, anything, "m"},
		{true, 'c', 1, 3, "rwm"},
		{true, 'c', 1, 5, "rwm"},
		{true, 'c', 1, 7, "rwm"},
		{true, 'c', 1, 8, "rwm"},
		{true, 'c', 1, 9, "rwm"},
		{true, 'c', 5, 0, "rwm"},
		{true, 'c', 5, 2, "rwm"},
		{true, 'c', 136, anything, "rwm"},
	}
}

// rules spells out the device rules. The first one of the result decides
// about everything, and no later one does: what precedes the last such rule
// has no effect, and where there is none it is "deny" (what is inherited
// depends on the version and on who set up the parent).
func (p *plan) rules() []rule {
	if len(p.r.Devices) == 0 {
		return nil
	}
	var out []rule
	for _, d := range p.r.Devices {
		r := rule{allow: d.Allow, kind: 'a', major: anything, minor: anything, access: d.Access}
		if d.Type != "" {
			r.kind = d.Type[0]
		}
		if len(d.Type) > 1 || r.kind != 'a' && r.kind != 'b' && r.kind != 'c' {
			p.invalid("devices.type", "%q is none of a, b, c", d.Type)
		}
		if r.access == "" {
			r.access = "rwm"
		}
		if strings.Trim(r.access, "rwm") != "" {
			p.invalid("devices.access", "%q is not made of r, w and m", d.Access)
		}
		r.access = inOrder(r.access)
		for _, n := range []struct {
			name string
			from *int64
			into *int64
		}{{"major", d.Major, &r.major}, {"minor", d.Minor, &r.minor}} {
			switch {
			case n.from == nil || *n.from == anything: // older specs say -1
			case *n.from < 0 || *n.from > 1<<32-1:
				p.invalid("devices."+n.name, "%d is not a device number", *n.from)
			default:
				*n.into = *n.from
			}
		}
		if r.kind == 'a' && (r.major != anything || r.minor != anything || r.access != "rwm") {
			// For the kernel's version 1 files "a" is everything, whatever
			// else the rule says.
			b, c := r, r
			b.kind, c.kind = 'b', 'c'
			out = append(out, b, c)
			continue
		}
		out = append(out, r)
	}
	base := rule{kind: 'a', major: anything, minor: anything, access: "rwm"}
	for i := len(out) - 1; i >= 0; i-- {
		if out[i].all() {
			base, out = out[i], out[i+1:]
			break
		}
	}
	out = append([]rule{base}, out...)
	if !base.allow {
		out = append(out, defaults()...)
	}
	return out
}

func inOrder(access string) string {
	s := ""
	for _, a := range "rwm" {
		if strings.ContainsRune(access, a) {
			s += string(a)
		}
	}
	return s
}

// legacyDevices writes the rules one by one.
func (p *plan) legacyDevices() {
	rules := p.rules()
	if len(rules) == 0 || p.err != nil || p.l.Rootless {
		return // users can neither make device nodes nor restrict them
	}
	d, ok := p.dirs["devices"]
	if !ok {
		if !(rules[0].allow && len(rules) == 1) {
			p.unsupported("devices", "the cgroup controller devices is not to be had: nothing would keep the container from the host's devices")
		}
		return
	}
	own := len(rules)
	if !rules[0].allow {
		own -= len(defaults())
	}
	if !p.exact(rules[:own]) {
		return
	}
	for i, r := range rules {
		file := "devices.deny"
		if r.allow {
			file = "devices.allow"
		}
		p.set.Writes = append(p.set.Writes, Write{File: d + "/" + file, Value: r.String(), Field: resources + "devices",
			// In a container of somebody's these may be refused: it was
			// given less, and has inherited that.
			Optional: i >= own || r.all() && r.allow})
	}
}

// exact reports whether version 1 gives the rules their meaning. The kernel
// keeps a default and exceptions from it; a rule that agrees with the default
// takes back only exceptions for the very same numbers, and silently nothing
// of one that overlaps.
func (p *plan) exact(rules []rule) bool {
	for i, r := range rules {
		if i == 0 || r.allow != rules[0].allow {
			continue
		}
		for _, e := range rules[1:i] {
			if e.allow != r.allow && e.overlaps(r) && (e.kind != r.kind || e.major != r.major || e.minor != r.minor) {
				p.unsupported("devices", "cgroup version 1 cannot take back a part: %q after %q", r, e)
				return false
			}
		}
	}
	return true
}

// overlaps reports whether some access to some device concerns both rules.
func (r rule) overlaps(o rule) bool {
	meet := func(a, b int64) bool { return a == b || a == anything || b == anything }
	return r.kind == o.kind && meet(r.major, o.major) && meet(r.minor, o.minor) && strings.ContainsAny(r.access, o.access)
}

// unifiedDevices compiles the rules.
func (p *plan) unifiedDevices() {
	rules := p.rules()
	if len(rules) == 0 || p.err != nil || p.l.Rootless {
		return // users can neither make device nodes nor load programs
	}
	p.set.Devices = program(rules)
}
