// Package mount reads mounts as people write them: -v, --mount and --tmpfs of the
// command line, volumes and mounts of containers.conf.
package mount

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/cove-engine/cove"
)

// mountSyntax is what a malformed --mount is told.
const mountSyntax = "incorrect mount format: should be --mount type=<bind|glob|tmpfs|volume>,[src=<host-dir|volume-name>,]target=<ctr-dir>[,options]"

// volumeOption reports whether o may stand in the third part of -v.
func volumeOption(o string) bool {
	switch o {
	case "ro", "rw", "z", "Z", "U", "O", "copy", "nocopy", "exec", "noexec", "dev", "nodev", "suid", "nosuid",
		"shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable",
		"bind", "rbind", "idmap", "consistent", "cached", "delegated", "no-dereference":
		return true
	}
	return strings.HasPrefix(o, "upperdir=") || strings.HasPrefix(o, "workdir=") || strings.HasPrefix(o, "idmap=")
}

// refused is the error of what podman mounts and cove does not.
func refused(field string) error {
	return cove.E("", "", cove.Unsupported, fmt.Errorf("--mount=%s is not supported by cove yet", field))
}

// Abs makes path absolute against dir, the working directory. Where that is not
// known, because it has been removed, dir is empty and a relative path an error:
// it must not be taken for one below the root.
func Abs(dir, path string) (string, error) {
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	if dir == "" {
		return "", fmt.Errorf("getting absolute path of %s: the working directory does not exist any more", path)
	}
	return filepath.Join(dir, path), nil
}

// parseVolume reads -v [SOURCE:]DESTINATION[:OPTIONS].
func parseVolume(dir, v string) (cove.Mount, error) {
	var m cove.Mount
	parts := splitVolume(v)
	if len(parts) > 3 {
		return m, fmt.Errorf("%s: incorrect volume format, should be [host-dir:]ctr-dir[:option]", v)
	}
	m.Type = "volume"
	switch len(parts) {
	case 1:
		m.Destination, m.Anonymous = parts[0], true
		if m.Destination == "" {
			return m, errors.New("container directory cannot be empty")
		}
	default:
		m.Source, m.Destination = parts[0], parts[1]
		if m.Source == "" {
			return m, errors.New("host directory cannot be empty")
		}
		if m.Destination == "" {
			return m, errors.New("container directory cannot be empty")
		}
		if m.Source[0] == '/' || m.Source[0] == '.' {
			m.Type = "bind"
			var err error
			if m.Source, err = Abs(dir, m.Source); err != nil {
				return m, err
			}
		}
	}
	if len(parts) == 3 {
		m.Options = strings.Split(parts[2], ",")
		if err := checkVolumeOptions(&m); err != nil {
			return m, err
		}
	}
	return m, destination(&m)
}

// splitVolume cuts v at colons that are not escaped by a backslash.
func splitVolume(v string) []string {
	if !strings.Contains(v, `\:`) {
		return strings.Split(v, ":")
	}
	var parts []string
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '\\' && i+1 < len(v) && v[i+1] == ':':
			b.WriteByte(':')
			i++
		case v[i] == ':':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(v[i])
		}
	}
	return append(parts, b.String())
}

// exclusive are options of which one mount takes one of each line, once; podman's name for the line.
var exclusive = [...]struct {
	name  string
	words []string
}{
	{"'rw' or 'ro'", []string{"rw", "ro"}},
	{"'z', 'Z', or 'O'", []string{"z", "Z", "O"}},
	{"'U'", []string{"U"}},
	{"'noexec' or 'exec'", []string{"noexec", "exec"}},
	{"'nodev' or 'dev'", []string{"nodev", "dev"}},
	{"'nosuid' or 'suid'", []string{"nosuid", "suid"}},
	{"'copy' or 'nocopy'", []string{"copy", "nocopy"}},
	{"'no-dereference'", []string{"no-dereference"}},
	{"'[r]bind'", []string{"bind", "rbind"}},
	{"'[r]shared', '[r]private', '[r]slave' or '[r]unbindable'", propagations},
}

var propagations = []string{"shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"}

func checkVolumeOptions(m *cove.Mount) error {
	kept := m.Options[:0:0]
	for _, o := range m.Options {
		if !volumeOption(o) {
			return fmt.Errorf("invalid option type %q", o)
		}
		switch o {
		case "consistent", "cached", "delegated": // docker's, for other systems
		default:
			kept = append(kept, o)
		}
	}
	m.Options = kept
	for _, e := range exclusive {
		given := 0
		for _, o := range kept {
			if slices.Contains(e.words, o) {
				given++
			}
		}
		if given > 1 {
			return fmt.Errorf("invalid options %q, can only specify 1 %s option", strings.Join(kept, ", "), e.name)
		}
	}
	besideO := func(o string) bool {
		return o != "O" && o != "U" && !strings.HasPrefix(o, "upperdir=") && !strings.HasPrefix(o, "workdir=")
	}
	if slices.Contains(kept, "O") && slices.ContainsFunc(kept, besideO) {
		return errors.New("can't use 'O' with other options")
	}
	return nil
}

// destination checks and cleans where m goes.
func destination(m *cove.Mount) error {
	if !strings.HasPrefix(m.Destination, "/") {
		return fmt.Errorf("invalid container path %q, must be an absolute path", m.Destination)
	}
	m.Destination = path.Clean(m.Destination)
	return nil
}

// parseTmpfs reads --tmpfs DESTINATION[:OPTIONS].
func parseTmpfs(v string) (cove.Mount, error) {
	dest, opts, _ := strings.Cut(v, ":")
	m := cove.Mount{Type: "tmpfs", Destination: dest}
	if opts != "" {
		m.Options = strings.Split(opts, ",")
	}
	return m, destination(&m)
}

// parseMount reads --mount's comma-separated key=value list.
func parseMount(dir, v string) (cove.Mount, error) {
	var m cove.Mount
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return m, errors.New(mountSyntax)
	}
	// A second type is an option that no mount has.
	i := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(f, "type=") })
	if i < 0 {
		return m, errors.New(mountSyntax)
	}
	m.Type = strings.TrimPrefix(fields[i], "type=")
	rest := slices.Delete(fields, i, i+1)
	switch m.Type {
	case "bind", "volume", "tmpfs", "ramfs", "devpts", "image":
	case "glob", "artifact":
		return m, refused("type=" + m.Type)
	default:
		return m, fmt.Errorf("invalid filesystem type %q", m.Type)
	}
	p := mountParser{m: &m, dir: dir}
	for _, f := range rest {
		if err := p.field(f); err != nil {
			return m, err
		}
	}
	if err := p.finish(); err != nil {
		return m, err
	}
	return m, destination(&m)
}

// mountParser collects the fields of one --mount.
type mountParser struct {
	m                    *cove.Mount
	dir                  string
	access               bool // ro or rw was said
	propagated, relabels bool
}

func (p *mountParser) field(f string) error {
	key, value, has := strings.Cut(f, "=")
	m := p.m
	option := func(o string) { m.Options = append(m.Options, o) }
	bad := fmt.Errorf("%s: %s", key, "invalid mount option")
	needs := func() error {
		if value == "" {
			return fmt.Errorf("%s: %s", key, "must set option value")
		}
		return nil
	}
	yes, err := true, error(nil)
	if has {
		yes, err = strconv.ParseBool(value)
	}
	isBool := err == nil
	switch key {
	case "src", "source":
		if m.Type == "tmpfs" || m.Type == "ramfs" || m.Type == "devpts" {
			return fmt.Errorf("source is not supported with %s mounts", m.Type)
		}
		if value == "" {
			return errors.New("host directory cannot be empty")
		}
		if m.Source != "" {
			return fmt.Errorf("cannot pass %q option more than once", key)
		}
		m.Source = value
		if m.Type == "bind" {
			var err error
			if m.Source, err = Abs(p.dir, value); err != nil {
				return err
			}
		}
	case "dst", "dest", "destination", "target":
		if err := needs(); err != nil {
			return err
		}
		if m.Destination != "" {
			return fmt.Errorf("cannot pass %q option more than once", key)
		}
		m.Destination = value
	case "ro", "readonly", "rw", "readwrite":
		if m.Type == "image" {
			if key != "rw" && key != "readwrite" {
				return bad
			}
		}
		if p.access {
			return fmt.Errorf("cannot pass 'readonly', 'ro', or 'rw' mount options more than once: %w", errMountOption)
		}
		if !isBool {
			return fmt.Errorf("%s: %s", f, "invalid mount option")
		}
		p.access = true
		if (key[:2] == "ro" || key == "readonly") == yes {
			option("ro")
		} else {
			option("rw")
		}
	case "suid", "nosuid", "dev", "nodev", "exec", "noexec":
		if m.Type == "image" || has && !isBool {
			return bad
		}
		if yes {
			option(key)
		}
	case "shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable":
		if m.Type != "bind" {
			return bad
		}
		p.propagated = true
		option(key)
	case "bind-propagation", "propagation":
		if m.Type != "bind" {
			return bad
		}
		if !slices.Contains(propagations, value) {
			return fmt.Errorf("%s: invalid mount propagation %q", key, value)
		}
		option(value)
	case "bind-nonrecursive":
		if m.Type != "bind" {
			return bad
		}
		if yes {
			option("bind")
		}
	case "bind-recursive":
		switch {
		case m.Type != "bind":
			return bad
		case value == "enabled":
		case value == "disabled":
			option("bind")
		default:
			return refused(f)
		}
	case "relabel":
		if m.Type != "bind" && m.Type != "volume" {
			return bad
		}
		if p.relabels {
			return errors.New("cannot pass 'relabel' option more than once")
		}
		p.relabels = true
		switch value {
		case "private":
			option("Z")
		case "shared":
			option("z")
		default:
			return fmt.Errorf("%s: %s", "relabel", "must be either 'private' or 'shared'")
		}
	case "z", "Z", "O":
		if m.Type != "bind" && m.Type != "volume" || has {
			return bad
		}
		option(key)
	case "U", "chown":
		if m.Type == "devpts" || m.Type == "image" || !isBool {
			return bad
		}
		if yes {
			option("U")
		}
	case "idmap":
		if m.Type != "bind" && m.Type != "volume" {
			return bad
		}
		option(f)
	case "consistency":
	case "no-dereference":
		if m.Type != "bind" {
			return bad
		}
		option(key)
	case "subpath", "volume-subpath", "image-subpath":
		if m.Type != "volume" && m.Type != "image" {
			return bad
		}
		if err := needs(); err != nil {
			return err
		}
		m.SubPath = value
	case "volume-nocopy", "nocopy":
		if m.Type != "volume" {
			return bad
		}
		if yes {
			option("nocopy")
		}
	case "copy":
		if m.Type != "volume" {
			return bad
		}
		option("copy")
	case "volume-driver":
		if m.Type != "volume" {
			return bad
		}
		if value != "" && value != "local" {
			return refused(f)
		}
	case "volume-opt", "volume-label", "bind-create-src":
		return refused(f)
	case "tmpfs-mode":
		if m.Type != "tmpfs" && m.Type != "ramfs" {
			return bad
		}
		if _, err := strconv.ParseUint(value, 8, 32); err != nil {
			return fmt.Errorf("invalid tmpfs-mode %q: must be octal", value)
		}
		option("mode=" + value)
	case "tmpfs-size":
		if m.Type != "tmpfs" && m.Type != "ramfs" {
			return bad
		}
		if err := needs(); err != nil {
			return err
		}
		if n, ok := strings.CutSuffix(value, "%"); ok {
			if _, err := strconv.ParseUint(n, 10, 8); err != nil {
				return fmt.Errorf("invalid tmpfs-size %q", value)
			}
		} else if _, err := units.RAMInBytes(value); err != nil {
			return fmt.Errorf("invalid tmpfs-size %q: %w", value, err)
		}
		option("size=" + value)
	case "tmpcopyup", "notmpcopyup":
		if m.Type != "tmpfs" {
			return bad
		}
		option(key)
	case "uid", "gid", "mode", "max":
		if m.Type != "devpts" || needs() != nil {
			return bad
		}
		option(f)
	default:
		return bad
	}
	return nil
}

var errMountOption = errors.New("invalid mount option")

// finish checks what only all fields together show.
func (p *mountParser) finish() error {
	m := p.m
	switch {
	case m.Type == "image" && (m.Source == "" || m.Destination == ""):
		return errors.New("must set source and destination for image volume")
	case m.Destination == "":
		return errors.New("must set volume destination")
	}
	switch m.Type {
	case "bind":
		if m.Source == "" { // as podman: the same path on both sides
			var err error
			if m.Source, err = Abs(p.dir, m.Destination); err != nil {
				return err
			}
		}
	case "volume":
		m.Anonymous = m.Source == ""
		if strings.HasPrefix(m.Source, "/") || strings.HasPrefix(m.Source, ".") {
			return fmt.Errorf("invalid volume name %q: use type=bind to mount a host directory", m.Source)
		}
	}
	return nil
}

// Parse reads all that is written in the three ways. One destination is mounted
// once; the same request said twice counts once. Relative sources are below dir, as Abs has it.
func Parse(dir string, volumes, mounts, tmpfs []string) ([]cove.Mount, error) {
	var all []cove.Mount
	add := func(m cove.Mount, err error) error {
		if err != nil {
			return err
		}
		for _, o := range all {
			if o.Destination != m.Destination {
				continue
			}
			if o.Type == m.Type && o.Source == m.Source && o.SubPath == m.SubPath && slices.Equal(o.Options, m.Options) {
				return nil
			}
			return fmt.Errorf("%s: duplicate mount destination", m.Destination)
		}
		all = append(all, m)
		return nil
	}
	for _, v := range mounts {
		if err := add(parseMount(dir, v)); err != nil {
			return nil, err
		}
	}
	for _, v := range volumes {
		if err := add(parseVolume(dir, v)); err != nil {
			return nil, err
		}
	}
	for _, v := range tmpfs {
		if err := add(parseTmpfs(v)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// CheckFrom checks --volumes-from's CONTAINER[:OPTIONS].
func CheckFrom(list []string) error {
	for _, v := range list {
		name, opts, has := strings.Cut(v, ":")
		if name == "" {
			return fmt.Errorf("invalid --volumes-from %q: no container named", v)
		}
		if !has {
			continue
		}
		given := map[string]int{}
		for o := range strings.SplitSeq(opts, ",") {
			switch o {
			case "z":
				given["z"]++
			case "ro", "rw":
				given["access"]++
			default:
				return fmt.Errorf("invalid option %q specified - volumes from another container can only use z,ro,rw options", o)
			}
		}
		if given["z"] > 1 {
			return errors.New("cannot set :z more than once in mount options")
		}
		if given["access"] > 1 {
			return errors.New("cannot set ro or rw options more than once")
		}
	}
	return nil
}
