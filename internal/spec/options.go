package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// mountOptions is a user's option list taken apart: what goes to the runtime
// and what cove has to do itself.
type mountOptions struct {
	oci     []string // for the runtime, in the user's order, defaults last
	chown   bool     // U
	relabel string   // z or Z
	overlay bool     // O
	upper   string   // upperdir=
	work    string   // workdir=
	nocopy  bool
	subPath string
}

// exclusive are options of which one may be given; the text is podman's.
var exclusive = []struct {
	words []string
	text  string
}{
	{[]string{"copy", "nocopy"}, "only one of 'nocopy' and 'copy' can be used"},
	{[]string{"exec", "noexec"}, "only one of 'noexec' and 'exec' can be used"},
	{[]string{"suid", "nosuid"}, "only one of 'nosuid' and 'suid' can be used"},
	{[]string{"dev", "nodev"}, "only one of 'nodev' and 'dev' can be used"},
	{[]string{"rw", "ro"}, "only one of 'rw' and 'ro' can be used"},
	{propagations, "only one root propagation mode can be used"},
	{[]string{"size"}, "only one tmpfs size can be specified"},
	{[]string{"mode"}, "only one tmpfs mode can be specified"},
	{[]string{"tmpcopyup", "notmpcopyup"}, "the 'tmpcopyup' or 'notmpcopyup' option can only be set once"},
	{[]string{"noswap"}, "the 'noswap' option can only be set once"},
	{[]string{"bind", "rbind"}, "only one of 'rbind' and 'bind' can be used"},
	{[]string{"z", "Z"}, "only one of 'z' and 'Z' can be used"},
	{[]string{"U"}, "the 'U' option can only be set once"},
	{[]string{"no-dereference"}, "the 'no-dereference' option can only be set once"},
}

var propagations = []string{
	"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable",
}

// onlyTmpfs and neverTmpfs belong to one kind of mount.
var (
	onlyTmpfs  = []string{"size", "mode", "tmpcopyup", "notmpcopyup", "noswap", "noatime"}
	neverTmpfs = []string{"bind", "rbind", "z", "Z", "O", "copy", "nocopy", "no-dereference"}
)

func badOption(format string, args ...any) error {
	return cove.E("", "", cove.Invalid, fmt.Errorf(format+": invalid mount option", args...))
}

// plainOption writes --mount's long words as mount(8)'s.
func plainOption(opt string) string {
	key, value, _ := strings.Cut(opt, "=")
	switch key {
	case "readonly":
		if value == "false" {
			return "rw"
		}
		return "ro"
	case "bind-propagation":
		return value
	case "bind-nonrecursive":
		if value == "false" {
			return "rbind"
		}
		return "bind"
	case "tmpfs-size":
		return "size=" + value
	case "tmpfs-mode":
		return "mode=" + value
	case "relabel":
		return map[string]string{"shared": "z", "private": "Z"}[value]
	case "U", "chown":
		if value == "false" {
			return "consistency"
		}
		return "U"
	case "volume-subpath":
		return "subpath=" + value
	}
	return opt
}

// parseOptions checks and completes the options of a bind (also of a volume) or
// tmpfs mount as podman does. noexec, nosuid and nodev are the defaults, undone
// by exec, suid and dev.
func parseOptions(options []string, tmpfs, rootless bool, noexec, nosuid, nodev bool) (mountOptions, error) {
	var o mountOptions
	seen := map[int]string{}
	for _, raw := range options {
		opt := plainOption(raw)
		key, value, hasValue := strings.Cut(opt, "=")
		if strings.ContainsAny(opt, ",\x00\n") {
			return o, badOption("mount option %q contains a comma or control character", raw)
		}
		if slices.Contains(onlyTmpfs, key) && !tmpfs {
			return o, badOption("the '%s' option is only allowed with tmpfs mounts", key)
		}
		if slices.Contains(neverTmpfs, key) && tmpfs {
			switch key {
			case "bind", "rbind":
				return o, badOption("the 'bind' and 'rbind' options are not allowed with tmpfs mounts")
			case "z", "Z":
				return o, badOption("the 'z' and 'Z' options are not allowed with tmpfs mounts")
			}
			return o, badOption("the '%s' option is not allowed with tmpfs mounts", key)
		}
		for i, e := range exclusive {
			if slices.Contains(e.words, key) {
				if _, dup := seen[i]; dup {
					return o, cove.E("", "", cove.Invalid, fmt.Errorf("%s: duplicate mount option passed", e.text))
				}
				seen[i] = key
			}
		}
		valued := slices.Contains([]string{"size", "mode", "upperdir", "workdir", "subpath", "consistency", "volume-opt", "idmap"}, key)
		if hasValue && !valued {
			return o, badOption("unknown mount option %q", raw)
		}
		switch key {
		case "idmap":
			return o, unsupported("mount option %q: ID-mapped mounts are not supported", raw)
		case "consistency", "volume-opt", "notmpcopyup", "copy":
			// For other systems, for drivers, or already the default.
		case "nocopy":
			o.nocopy = true
		case "O":
			o.overlay = true
		case "upperdir":
			o.upper = value
		case "workdir":
			o.work = value
		case "subpath":
			o.subPath = value
		case "U":
			o.chown = true
		case "z", "Z":
			o.relabel = key
		case "no-dereference":
			// crun's name for it.
			o.oci = append(o.oci, "copy-symlink")
		case "size":
			if !validSize(value) {
				return o, badOption("tmpfs size %q is not a number with an optional k, m, g, t or %%", value)
			}
			o.oci = append(o.oci, opt)
		case "mode":
			if m, err := strconv.ParseUint(value, 8, 32); err != nil || m > 0o7777 {
				return o, badOption("tmpfs mode %q is not an octal mode", value)
			}
			o.oci = append(o.oci, opt)
		case "noswap":
			if rootless {
				return o, badOption("the 'noswap' option is only allowed with rootful tmpfs mounts")
			}
			o.oci = append(o.oci, opt)
		case "exec", "noexec", "suid", "nosuid", "dev", "nodev", "rw", "ro", "tmpcopyup", "bind", "rbind", "noatime",
			"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
			o.oci = append(o.oci, opt)
		default:
			return o, badOption("unknown mount option %q", raw)
		}
	}
	if (o.upper != "" || o.work != "") && !o.overlay {
		return o, badOption("upperdir and workdir need the 'O' option")
	}
	if (o.upper == "") != (o.work == "") {
		return o, badOption("must specify both upperdir and workdir")
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(o.oci, w) })
	}
	if !has(propagations...) {
		o.oci = append(o.oci, "rprivate")
	}
	if noexec && !has("exec", "noexec") {
		o.oci = append(o.oci, "noexec")
	}
	if nosuid && !has("suid", "nosuid") {
		o.oci = append(o.oci, "nosuid")
	}
	if nodev && !has("dev", "nodev") {
		o.oci = append(o.oci, "nodev")
	}
	if tmpfs && !slices.ContainsFunc(options, func(s string) bool { return s == "tmpcopyup" || s == "notmpcopyup" }) {
		o.oci = append(o.oci, "tmpcopyup")
	}
	if !tmpfs && !has("bind", "rbind") {
		o.oci = append(o.oci, "rbind")
	}
	return o, nil
}

func validSize(s string) bool {
	if s == "" {
		return false
	}
	digits := strings.TrimRight(s, "kmgtKMGT%")
	return len(s)-len(digits) <= 1 && digits != "" && strings.Trim(digits, "0123456789") == ""
}
