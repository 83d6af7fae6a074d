package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/rootless"
	"github.com/cove-engine/cove/internal/runtime"
)

// command is a verb being carried out.
type command struct {
	r      *runtime.Runtime
	flags  *flag.FlagSet
	out    io.Writer
	errOut io.Writer
	// inherited is how many descriptors from 3 on are the caller's.
	inherited int
}

// verb is a command of the program.
type verb struct {
	name, args, help string
	run              func(*command, []string) (int, error)
}

func verbs() []verb {
	return []verb{
		{"create", "ID", "create a container from a bundle", create},
		{"delete", "ID", "remove a stopped container", remove},
		{"events", "ID", "print what a container uses, and when it runs out of memory", events},
		{"exec", "ID COMMAND [ARG…]", "run a process in a container", execute},
		{"features", "", "print what this runtime can do", features},
		{"kill", "ID [SIGNAL]", "send a signal to a container", kill},
		{"list", "", "list the containers of the root", list},
		{"pause", "ID", "freeze a container", pause},
		{"ps", "ID [PS-OPTION…]", "list the processes of a container", processes},
		{"resume", "ID", "thaw a paused container", resume},
		{"run", "ID", "create and start a container", runContainer},
		{"spec", "", "write a bundle's config.json to begin with", spec},
		{"start", "ID", "start a created container", start},
		{"state", "ID", "print the state of a container", state},
		{"update", "ID", "change the limits of a container", update},
	}
}

// run is the program: its exit code is 1 for every failure, as runc's is.
func run(args []string, inherited int, out, errOut io.Writer) int {
	r := &runtime.Runtime{}
	var l log
	fs := flags("cove-runtime")
	fs.StringVar(&r.Root, "root", defaultRoot(), "where containers are recorded")
	fs.StringVar(&l.path, "log", "", "file that errors and warnings are added to")
	fs.StringVar(&l.format, "log-format", "text", "of it: text or json")
	fs.BoolVar(&l.debug, "debug", false, "log every call, too")
	fs.BoolVar(&r.Systemd, "systemd-cgroup", false, "let systemd make cgroups: cgroupsPath is slice:prefix:name")
	fs.String("rootless", "auto", "true, false or auto; what is possible is found out by itself")
	fs.String("criu", "", "not used: checkpoint is not supported")
	version := fs.Bool("version", false, "print the version")
	fs.BoolVar(version, "v", false, "the same")
	code, err := -1, error(nil)
	switch err = fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		usage(out, fs)
		return 0
	case err != nil:
	case *version:
		fmt.Fprintf(out, "cove-runtime version %s\nspec: %s\n", cove.Version, specs.Version)
		return 0
	case fs.NArg() == 0 || fs.Arg(0) == "help":
		usage(out, fs)
		return 0
	default:
		if err = l.open(); err != nil {
			break
		}
		defer l.close()
		if l.debug {
			l.add("debug", "cove-runtime "+cove.Version+": "+strings.Join(args, " "))
		}
		r.Warn = func(text string) {
			l.add("warning", text)
			if l.file == nil {
				fmt.Fprintln(errOut, "cove-runtime: warning: "+text)
			}
		}
		if r.Root, err = filepath.Abs(r.Root); err != nil {
			break
		}
		code, err = dispatch(&command{r: r, out: out, errOut: errOut, inherited: inherited}, fs.Args())
	}
	if err == nil {
		return code
	}
	l.add("error", err.Error())
	fmt.Fprintln(errOut, "cove-runtime: "+err.Error())
	if code > 0 {
		return code
	}
	return 1
}

func dispatch(c *command, args []string) (int, error) {
	all := verbs()
	i := slices.IndexFunc(all, func(v verb) bool { return v.name == args[0] })
	if i < 0 {
		switch args[0] {
		case "checkpoint", "restore":
			return -1, cove.E("", args[0], cove.Unsupported, errors.New("is not supported"))
		}
		// runc's code.
		return 3, cove.E("", args[0], cove.Invalid, errors.New("is not a command; see cove-runtime --help"))
	}
	c.flags = flags("cove-runtime " + all[i].name)
	code, err := all[i].run(c, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(c.out, "cove-runtime %s [OPTION…] %s\n\n%s\n\n", all[i].name, all[i].args, all[i].help)
		options(c.out, c.flags)
		return 0, nil
	}
	return code, err
}

// parse reads flags and the container's ID; others are what may follow it.
func (c *command) parse(args []string, others bool) (id string, rest []string, err error) {
	if err := c.flags.Parse(args); err != nil {
		return "", nil, err
	}
	if c.flags.NArg() == 0 {
		return "", nil, cove.E("", strings.TrimPrefix(c.flags.Name(), "cove-runtime "), cove.Invalid, errors.New("needs the ID of a container"))
	}
	id, rest = c.flags.Arg(0), c.flags.Args()[1:]
	if len(rest) > 0 && !others {
		return "", nil, cove.E("", c.flags.Name(), cove.Invalid, fmt.Errorf("%q is one argument too many", rest[0]))
	}
	return id, rest, nil
}

// keep refuses to hand on descriptors that the caller has not left open: by now they
// may be some of ours, of the host's files.
func (c *command) keep(what string, n int) error {
	if n < 0 || n > c.inherited {
		return cove.E("", what, cove.Invalid, fmt.Errorf("%d: the descriptors that are open are %d from 3 on", n, c.inherited))
	}
	return nil
}

// flags makes a set that prints nothing by itself.
func flags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

func usage(out io.Writer, fs *flag.FlagSet) {
	fmt.Fprint(out, "cove-runtime [OPTION…] COMMAND …: an OCI runtime\n\n")
	for _, v := range verbs() {
		fmt.Fprintf(out, "  %-9s %-20s %s\n", v.name, v.args, v.help)
	}
	fmt.Fprintln(out)
	options(out, fs)
}

func options(out io.Writer, fs *flag.FlagSet) {
	fs.VisitAll(func(f *flag.Flag) {
		dash := "--"
		if len(f.Name) == 1 {
			dash = "-"
		}
		fmt.Fprintf(out, "  %-24s %s\n", dash+f.Name, f.Usage)
	})
}

// defaultRoot is a directory that does not outlive the containers. The root of a
// user namespace, as whom an ordinary user's podman calls, has the user's, unless
// USER says that he is root; so for runc.
func defaultRoot() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if os.Geteuid() == 0 {
		if host, err := rootless.OwnsHost(); host || err != nil || os.Getenv("USER") == "root" {
			dir = ""
		}
	}
	if dir == "" {
		return "/run/cove-runtime"
	}
	return filepath.Join(dir, "cove-runtime")
}

// listFlag is a flag that may be given more than once.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }
