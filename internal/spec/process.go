package spec

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// initPath is where --init's program is seen inside, podman 5's place.
const initPath = "/run/podman-init"

func (b *builder) wantsInit() bool { return b.in.Init }

func (b *builder) initSource() string {
	if b.in.InitPath != "" {
		return b.in.InitPath
	}
	return b.conf.InitPath
}

// process sets arguments, working directory, terminal and umask.
func (b *builder) process() error {
	p := b.out.Process
	args, err := b.args()
	if err != nil {
		return err
	}
	p.Args = args
	p.Terminal = b.in.Terminal
	p.Cwd = "/"
	switch {
	case b.in.WorkDir != "":
		wd, err := cleanAbs(b.in.WorkDir)
		if err != nil {
			return invalid("the working directory %q is invalid, it needs to be an absolute path", b.in.WorkDir)
		}
		p.Cwd = wd
	case b.c.Image.WorkDir != "":
		// Images with a relative one exist; it counts from the root.
		if strings.ContainsRune(b.c.Image.WorkDir, 0) {
			return invalid("the image's working directory %q is invalid", b.c.Image.WorkDir)
		}
		p.Cwd = path.Join("/", b.c.Image.WorkDir)
		b.extra.CreateWorkDir = true
	}
	p.NoNewPrivileges = b.in.NoNewPrivileges

	umask := cmp.Or(b.in.Umask, b.conf.Umask, cove.DefaultUmask)
	u, err := strconv.ParseUint(umask, 8, 32)
	if err != nil || u > 0o777 {
		return invalid("invalid umask string %s: invalid argument", umask)
	}
	m := uint32(u)
	p.User.Umask = &m
	return b.oomScore()
}

// command joins entrypoint and command. An entrypoint given by the user resets
// the image's command too.
func command(c *cove.Container) []string {
	entrypoint, command := c.Image.Entrypoint, c.Spec.Command
	if c.Spec.EntrypointSet {
		entrypoint = c.Spec.Entrypoint
	} else if len(command) == 0 {
		command = c.Image.Cmd
	}
	if len(entrypoint) == 1 && entrypoint[0] == "" {
		entrypoint = nil
	}
	return slices.Concat(entrypoint, command)
}

// args are the command's, below --init's program where that was asked for.
func (b *builder) args() ([]string, error) {
	args := command(b.c)
	if len(args) == 0 {
		// A start that finds no command, to podman 5 and its runtimes.
		return nil, cove.E("", "", cove.NoCommand, errors.New("no command or entrypoint provided, and no CMD or ENTRYPOINT from image"))
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return nil, invalid("command argument %q contains a NUL byte", a)
		}
	}
	if b.wantsInit() {
		if !b.modes.pid.is("private") {
			return nil, invalid("cannot add init binary as PID 1 (PID namespace isn't private)")
		}
		if b.initSource() == "" {
			return nil, invalid("no path to init binary found but container requested an init")
		}
		args = append([]string{initPath, "--"}, args...)
	}
	return args, nil
}

func (b *builder) oomScore() error {
	adj := b.in.OOMScoreAdj
	if adj == nil {
		adj = b.conf.OOMScoreAdj
	}
	if adj == nil {
		return nil
	}
	v := *adj
	if v < -1000 || v > 1000 {
		return invalid("invalid value %d, range for oom score adj is [-1000, 1000]", v)
	}
	if b.host.Rootless && v < b.host.OOMScoreAdj {
		b.warn("Requested oom_score_adj=%d is lower than the current one, changing to %d", v, b.host.OOMScoreAdj)
		v = b.host.OOMScoreAdj
	}
	b.out.Process.OOMScoreAdj = &v
	return nil
}

// user decides who runs. Names are left to init; numbers are also set
// directly, so that a runtime without cove's init gives at least no more
// than was asked.
func (b *builder) user() error {
	u := b.in.User
	if u == "" {
		u = b.c.Image.User
	}
	if u == "" && b.modes.user.is("keep-id") {
		u = strconv.FormatUint(uint64(b.host.UID), 10) + ":" + strconv.FormatUint(uint64(b.host.GID), 10)
	}
	if strings.ContainsAny(u, "\x00\n") {
		return invalid("invalid user specification %q: must be user[:group]", u)
	}
	u = UserAndGroup(u)
	name, group, _ := strings.Cut(u, ":")
	out := &b.out.Process.User
	if name != "" {
		out.Username = u
	}
	uid, numeric, err := parseID(name)
	if err != nil {
		return err
	}
	if numeric {
		out.UID = uid
	}
	gid, numeric, err := parseID(group)
	if err != nil {
		return err
	}
	if numeric {
		out.GID = gid
		out.AdditionalGids = append(out.AdditionalGids, gid)
	}
	for _, g := range b.in.Groups {
		if g == "" || strings.ContainsAny(g, "\x00\n:") {
			return invalid("invalid group %q", g)
		}
		gid, numeric, err := parseID(g)
		if err != nil {
			return err
		}
		if numeric && !slices.Contains(out.AdditionalGids, gid) {
			out.AdditionalGids = append(out.AdditionalGids, gid)
		}
	}
	b.extra.User = u
	b.extra.Groups = slices.Clone(b.in.Groups)
	return nil
}

// UserAndGroup is what podman and docker read of u: of a group alone the user is root, and more fields are nothing.
func UserAndGroup(u string) string {
	name, rest, _ := strings.Cut(u, ":")
	if group, _, _ := strings.Cut(rest, ":"); group != "" {
		return cmp.Or(name, "0") + ":" + group
	}
	return name
}

// maxID is the largest user or group ID: the kernel's own signed limit, as
// every engine checks it.
const maxID = 1<<31 - 1

// ErrIDRange is in the error of a user's or group's number that cannot be one.
var ErrIDRange = fmt.Errorf("is out of range 0-%d", maxID)

// parseID tells a number from a name. A number out of range is an error, not a
// name, lest it wrap to 0.
func parseID(s string) (id uint32, numeric bool, err error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxID {
		return 0, false, invalid("user or group ID %.80s %w", s, ErrIDRange)
	}
	return uint32(n), true, nil
}
