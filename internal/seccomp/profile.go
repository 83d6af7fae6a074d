package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	library "go.podman.io/common/pkg/seccomp"
	"golang.org/x/sys/unix"

	cove "github.com/cove-engine/cove"
)

// DefaultProfile names the content of the default profile: the SHA-256 sum of
// it as JSON. It stands for the profile in the keys of the cache, so that a
// start need not build it; a test tells when it has changed and this must follow.
const DefaultProfile = "b9b5eee0b4d4910daa1355a11a289716f075a0206114d3b3b4c8e4395c7dc47b"

// profileLimit is the most that is read of a profile, in bytes. The largest
// in use are below 100 KB.
const profileLimit = 1 << 20

// Target is what the conditional parts of a profile are evaluated for.
type Target struct {
	Arch   string   // a GOARCH name
	Kernel Kernel   // for minKernel in docker's profiles; zero: every minimum is met
	Caps   []string // the bounding set, "CAP_CHOWN" and so on, in any order
}

// Kernel is a kernel's release, its first two numbers.
type Kernel struct{ Major, Minor uint }

// RunningKernel is the release of the kernel underneath.
func RunningKernel() (Kernel, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Kernel{}, cove.E("seccomp", "kernel release", cove.Internal, os.NewSyscallError("uname", err))
	}
	k, err := ParseKernel(unix.ByteSliceToString(name.Release[:]))
	if err != nil {
		return Kernel{}, cove.E("seccomp", "kernel release", cove.Internal, err)
	}
	return k, nil
}

// ParseKernel reads "5.10", "6.1.0-18-amd64" and the like.
func ParseKernel(text string) (Kernel, error) {
	major, rest, _ := strings.Cut(text, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	x, err1 := strconv.ParseUint(major, 10, 16)
	y, err2 := strconv.ParseUint(rest[:end], 10, 16)
	if err1 != nil || err2 != nil {
		return Kernel{}, fmt.Errorf("kernel release %q does not begin with two numbers", text)
	}
	return Kernel{uint(x), uint(y)}, nil
}

// below says whether k is older than other; the zero Kernel never is.
func (k Kernel) below(other Kernel) bool {
	return k != Kernel{} && (k.Major < other.Major || k.Major == other.Major && k.Minor < other.Minor)
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kernel) UnmarshalText(text []byte) error {
	var err error
	*k, err = ParseKernel(string(text))
	return err
}

// The JSON shape of profiles: docker's, of which OCI's is a part.
type (
	profile struct {
		DefaultAction    specs.LinuxSeccompAction `json:"defaultAction"`
		DefaultErrnoRet  *uint                    `json:"defaultErrnoRet"`
		DefaultErrno     string                   `json:"defaultErrno"`
		Architectures    []specs.Arch             `json:"architectures"`
		ArchMap          []archMap                `json:"archMap"`
		Flags            []specs.LinuxSeccompFlag `json:"flags"`
		ListenerPath     string                   `json:"listenerPath"`
		ListenerMetadata string                   `json:"listenerMetadata"`
		Syscalls         []syscallRule            `json:"syscalls"`
	}
	archMap struct {
		Arch     specs.Arch   `json:"architecture"`
		SubArchs []specs.Arch `json:"subArchitectures"`
	}
	syscallRule struct {
		Name     string                   `json:"name"`
		Names    []string                 `json:"names"`
		Action   specs.LinuxSeccompAction `json:"action"`
		ErrnoRet *uint                    `json:"errnoRet"`
		Errno    string                   `json:"errno"`
		Args     []specs.LinuxSeccompArg  `json:"args"`
		Includes filter                   `json:"includes"`
		Excludes filter                   `json:"excludes"`
	}
	filter struct {
		Caps      []string `json:"caps"`
		Archs     []string `json:"arches"`
		MinKernel *Kernel  `json:"minKernel"`
	}
)

// Default is the default profile for t: what both go.podman.io/common's and
// docker's let through.
func Default(t Target) (*specs.LinuxSeccomp, error) { return defaultProfile().resolve(t) }

func defaultProfile() *profile {
	p := convert(library.DefaultProfile())
	narrow(p)
	return p
}

// Load reads the profile at path and resolves it for t; see [Parse].
func Load(path string, t Target) (*specs.LinuxSeccomp, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(text, t)
}

// Read gives the bytes of the profile at path, for [Parse] or
// [Cache.Profile].
func Read(path string) ([]byte, error) {
	fail := func(kind cove.Kind, err error) ([]byte, error) {
		return nil, cove.E("read seccomp profile", path, kind, err)
	}
	// O_NONBLOCK: a FIFO must not hold the start up.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fail(cove.NoFile, unwrapPath(err))
	} else if err != nil {
		return fail(cove.Denied, unwrapPath(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail(cove.Internal, unwrapPath(err))
	}
	if !info.Mode().IsRegular() {
		return fail(cove.Invalid, errors.New("is not a regular file"))
	}
	text, err := io.ReadAll(io.LimitReader(f, profileLimit+1))
	if err != nil {
		return fail(cove.Internal, unwrapPath(err))
	}
	if len(text) > profileLimit {
		return fail(cove.Invalid, fmt.Errorf("is larger than %d bytes", profileLimit))
	}
	return text, nil
}

// unwrapPath takes the operation and the path off, which our own error names.
func unwrapPath(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

// Parse resolves a profile in docker's or OCI's JSON format for t. A profile
// with neither a default action nor rules switches seccomp off, as in podman:
// the result is nil.
func Parse(text []byte, t Target) (*specs.LinuxSeccomp, error) {
	if len(text) > profileLimit {
		return nil, invalid(fmt.Errorf("is larger than %d bytes", profileLimit))
	}
	var p profile
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, invalid(err)
	}
	return p.resolve(t)
}

// resolve picks the parts of p that apply to t.
func (p *profile) resolve(t Target) (*specs.LinuxSeccomp, error) {
	if p.DefaultAction == "" && len(p.Syscalls) == 0 {
		return nil, nil
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return nil, invalid(errors.New("has both architectures and archMap"))
	}
	m, err := machineOf(t.Arch)
	if err != nil {
		return nil, err
	}
	s := &specs.LinuxSeccomp{
		DefaultAction:    p.DefaultAction,
		Architectures:    p.Architectures,
		Flags:            p.Flags,
		ListenerPath:     p.ListenerPath,
		ListenerMetadata: p.ListenerMetadata,
	}
	for _, a := range p.ArchMap {
		if a.Arch == m.abis[0].arch {
			s.Architectures = append([]specs.Arch{a.Arch}, a.SubArchs...)
			break
		}
	}
	if s.DefaultErrnoRet, err = errnoOf(p.DefaultErrno, p.DefaultErrnoRet); err != nil {
		return nil, invalid(fmt.Errorf("defaultErrno: %w", err))
	}
	for i, c := range p.Syscalls {
		if !c.applies(t) {
			continue
		}
		errno, err := errnoOf(c.Errno, c.ErrnoRet)
		if err != nil {
			return nil, invalid(fmt.Errorf("syscalls[%d]: %w", i, err))
		}
		names := c.Names
		switch {
		case c.Name != "" && len(names) > 0:
			return nil, invalid(fmt.Errorf("syscalls[%d]: has both name and names", i))
		case c.Name != "":
			names = []string{c.Name}
		case len(names) == 0:
			continue // podman ignores a rule about nothing
		}
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: names, Action: c.Action, ErrnoRet: errno, Args: c.Args})
	}
	return s, nil
}

// applies says whether the rule is for t: it has all that includes names and
// nothing of what excludes names.
func (c *syscallRule) applies(t Target) bool {
	arch := t.Arch
	if arch == "386" {
		arch = "x86" // libseccomp's name, which profiles use
	}
	for _, name := range c.Excludes.Caps {
		if slices.Contains(t.Caps, name) {
			return false
		}
	}
	for _, name := range c.Includes.Caps {
		if !slices.Contains(t.Caps, name) {
			return false
		}
	}
	switch in, ex := c.Includes, c.Excludes; {
	case slices.Contains(ex.Archs, arch),
		len(in.Archs) > 0 && !slices.Contains(in.Archs, arch),
		in.MinKernel != nil && t.Kernel.below(*in.MinKernel),
		ex.MinKernel != nil && !t.Kernel.below(*ex.MinKernel):
		return false
	}
	return true
}

// errnoOf reads "EPERM" or "1"; fallback is the older, numeric field.
func errnoOf(name string, fallback *uint) (*uint, error) {
	if name == "" {
		return fallback, nil
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		v := uint(n)
		return &v, nil
	}
	switch name {
	case "EWOULDBLOCK":
		name = "EAGAIN"
	case "EDEADLOCK":
		name = "EDEADLK"
	case "EOPNOTSUPP":
		name = "ENOTSUP"
	}
	for n := range uint(134) { // EHWPOISON is 133
		if unix.ErrnoName(unix.Errno(n)) == name {
			return &n, nil
		}
	}
	return nil, fmt.Errorf("unknown errno %q", name)
}

// convert takes the library's form over.
func convert(l *library.Seccomp) *profile {
	p := &profile{
		DefaultAction:   specs.LinuxSeccompAction(l.DefaultAction),
		DefaultErrnoRet: l.DefaultErrnoRet,
		DefaultErrno:    l.DefaultErrno,
		Architectures:   archs(l.Architectures),
	}
	for _, a := range l.ArchMap {
		p.ArchMap = append(p.ArchMap, archMap{specs.Arch(a.Arch), archs(a.SubArches)})
	}
	for _, c := range l.Syscalls {
		rule := syscallRule{
			Name: c.Name, Names: c.Names, Action: specs.LinuxSeccompAction(c.Action), ErrnoRet: c.ErrnoRet, Errno: c.Errno,
			Includes: filter{Caps: c.Includes.Caps, Archs: c.Includes.Arches},
			Excludes: filter{Caps: c.Excludes.Caps, Archs: c.Excludes.Arches},
		}
		for _, a := range c.Args {
			rule.Args = append(rule.Args, specs.LinuxSeccompArg{
				Index: a.Index, Value: a.Value, ValueTwo: a.ValueTwo, Op: specs.LinuxSeccompOperator(a.Op),
			})
		}
		p.Syscalls = append(p.Syscalls, rule)
	}
	return p
}

func archs(names []library.Arch) []specs.Arch {
	var list []specs.Arch
	for _, a := range names {
		list = append(list, specs.Arch(a))
	}
	return list
}
