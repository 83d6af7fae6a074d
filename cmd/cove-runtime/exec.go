package main

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/runtime"
)

// notBegun is runc's code for an exec that could not begin.
const notBegun = 255

func execute(c *command, args []string) (int, error) {
	var o runtime.ExecOptions
	var env, caps, groups, cgroups listFlag
	f := c.flags
	f.StringVar(&o.ConsoleSocket, "console-socket", "", "socket that is sent the terminal")
	f.StringVar(&o.PIDFile, "pid-file", "", "file for the process's ID")
	f.StringVar(&o.PIDFDSocket, "pidfd-socket", "", "socket that is sent the process by descriptor")
	f.IntVar(&o.Preserve, "preserve-fds", 0, "how many descriptors from 3 on the command keeps")
	f.BoolVar(&o.IgnorePaused, "ignore-paused", false, "also in a paused container, where it will wait")
	f.Var(&cgroups, "cgroup", "[CONTROLLER[,CONTROLLER…]:]PATH, a cgroup below the container's own")
	file := f.String("process", "", "file with the process, as in a spec")
	f.StringVar(file, "p", "", "the same")
	cwd := f.String("cwd", "", "working directory")
	f.Var(&env, "env", "environment variable, NAME=VALUE")
	f.Var(&env, "e", "the same")
	tty := f.Bool("tty", false, "give it a terminal")
	f.BoolVar(tty, "t", false, "the same")
	user := f.String("user", "", "UID[:GID]")
	f.StringVar(user, "u", "", "the same")
	f.Var(&groups, "additional-gids", "further groups")
	f.Var(&groups, "g", "the same")
	detach := f.Bool("detach", false, "do not wait for it")
	f.BoolVar(detach, "d", false, "the same")
	label := f.String("process-label", "", "SELinux label")
	apparmor := f.String("apparmor", "", "AppArmor profile")
	nnp := f.Bool("no-new-privs", false, "no more rights by execve")
	f.Var(&caps, "cap", "further capability")
	f.Var(&caps, "c", "the same")
	f.Bool("no-subreaper", false, "of no effect, as in runc")
	id, rest, err := c.parse(args, true)
	if err != nil {
		return -1, err
	}
	if err := c.keep("--preserve-fds", o.Preserve); err != nil {
		return notBegun, err
	}
	if o.Cgroups, err = readCgroups(cgroups); err != nil {
		return notBegun, err
	}
	ctr, err := c.r.Open(id)
	if err != nil {
		return notBegun, err
	}
	var p *specs.Process
	if *file != "" {
		if p, err = readProcess(*file); err != nil {
			return notBegun, err
		}
	} else {
		if len(rest) == 0 {
			return notBegun, cove.E("", "exec", cove.Invalid, errors.New("needs a command, or --process"))
		}
		if p = ctr.ExecProcess(); p == nil {
			return notBegun, cove.E("", "exec", cove.WrongStatus, errors.New("the container is not complete"))
		}
		p.Args, p.Terminal = rest, *tty
		p.Env = append(p.Env[:len(p.Env):len(p.Env)], env...)
		set(&p.Cwd, *cwd)
		set(&p.SelinuxLabel, *label)
		set(&p.ApparmorProfile, *apparmor)
		p.NoNewPrivileges = p.NoNewPrivileges || *nnp
		if err := setUser(p, *user, groups); err != nil {
			return notBegun, err
		}
		addCaps(p, caps)
	}
	o.KeepTerminal = !*detach
	b, err := c.r.Exec(id, p, o)
	if err != nil {
		return notBegun, err
	}
	if *detach {
		return 0, nil
	}
	return b.Watch(false), nil
}

// readCgroups gives paths by controller.
func readCgroups(list []string) (map[string]string, error) {
	paths := map[string]string{}
	for _, arg := range list {
		controllers, path, named := strings.Cut(arg, ":")
		if !named {
			controllers, path = "", arg
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			if named == (controller == "") || !named && len(list) > 1 {
				return nil, cove.E("", "--cgroup", cove.Invalid, errors.New(arg+": is neither CONTROLLER:PATH nor the only PATH"))
			}
			paths[controller] = path
		}
	}
	return paths, nil
}

func readProcess(file string) (*specs.Process, error) {
	data, err := runtime.ReadInputFile("read process", file)
	if err != nil {
		return nil, err
	}
	p := new(specs.Process)
	if err := json.Unmarshal(data, p); err != nil {
		return nil, cove.E("read process", file, cove.Invalid, err)
	}
	return p, nil
}

func set(field *string, value string) {
	if value != "" {
		*field = value
	}
}

func setUser(p *specs.Process, user string, groups []string) error {
	number := func(flag, text string) (uint32, error) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return 0, cove.E("", flag, cove.Invalid, errors.New(text+" is not a number"))
		}
		return uint32(n), nil
	}
	if user != "" {
		uid, gid, both := strings.Cut(user, ":")
		var err error
		if p.User.UID, err = number("--user", uid); err != nil {
			return err
		}
		if both {
			if p.User.GID, err = number("--user", gid); err != nil {
				return err
			}
		}
	}
	for _, g := range groups {
		n, err := number("--additional-gids", g)
		if err != nil {
			return err
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, n)
	}
	return nil
}

// addCaps adds to all sets but those that survive an exec by themselves.
func addCaps(p *specs.Process, caps []string) {
	if len(caps) == 0 {
		return
	}
	all := specs.LinuxCapabilities{}
	if p.Capabilities != nil {
		all = *p.Capabilities
	}
	for _, s := range []*[]string{&all.Bounding, &all.Effective, &all.Permitted} {
		*s = append((*s)[:len(*s):len(*s)], caps...)
	}
	p.Capabilities = &all
}
