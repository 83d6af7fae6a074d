package spec

import (
	"slices"
	"strings"
)

// variables is an ordered environment: a later value takes the place of the
// earlier one.
type variables []string

func (v *variables) set(key, value string) {
	entry := key + "=" + value
	for i, e := range *v {
		if strings.HasPrefix(e, key+"=") {
			(*v)[i] = entry
			return
		}
	}
	*v = append(*v, entry)
}

func (v variables) has(key string) bool {
	return slices.ContainsFunc(v, func(e string) bool { return strings.HasPrefix(e, key+"=") })
}

func (v *variables) unset(key string) {
	*v = slices.DeleteFunc(*v, func(e string) bool { return strings.HasPrefix(e, key+"=") })
}

func (v *variables) join(entries []string) error {
	for _, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		if key == "" || strings.ContainsRune(e, 0) {
			return invalid("invalid environment variable %q", e)
		}
		v.set(key, value)
	}
	return nil
}

// environment joins the caller's, containers.conf's, the image's and the user's variables;
// the latter win. --unsetenv takes away from all but the last. HOME is left to
// init, which reads the container's /etc/passwd.
func (b *builder) environment() error {
	var env variables
	env.set("PATH", strings.TrimPrefix(defaultPath, "PATH="))
	// Programs ask for this variable to learn that they are in a container,
	// systemd foremost.
	env.set("container", "cove")
	if err := env.join(b.in.HostEnv); err != nil {
		return err
	}
	if err := env.join(b.conf.Env); err != nil {
		return err
	}
	if b.in.Terminal {
		env.set("TERM", "xterm")
	}
	if err := env.join(b.c.Image.Env); err != nil {
		return err
	}
	if b.in.UnsetEnvAll {
		env = nil
	}
	for _, key := range b.in.UnsetEnv {
		env.unset(key)
	}
	if err := env.join(b.in.Env); err != nil {
		return err
	}
	if !env.has("HOSTNAME") {
		env.set("HOSTNAME", b.extra.Hostname)
	}
	b.out.Process.Env = env
	return nil
}
