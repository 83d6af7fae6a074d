package spec

import "github.com/cove-engine/cove"

// security sets AppArmor and SELinux, and says which seccomp profile was
// asked.
func (b *builder) security() error {
	if err := b.appArmor(); err != nil {
		return err
	}
	if b.host.SELinux {
		b.out.Process.SelinuxLabel, b.out.Linux.MountLabel = b.c.ProcessLabel, b.c.MountLabel
	}
	switch {
	case b.in.Seccomp != "":
		b.extra.Seccomp = b.in.Seccomp
	case b.in.Privileged:
		b.extra.Seccomp = "unconfined"
	default:
		b.extra.Seccomp = b.conf.Seccomp
	}
	return nil
}

func (b *builder) appArmor() error {
	asked := b.in.AppArmor
	if !b.host.AppArmor {
		if asked != "" && asked != "unconfined" {
			return invalid("apparmor profile %q specified, but Apparmor is not enabled on this system", asked)
		}
		return nil
	}
	b.out.Process.ApparmorProfile = AppArmorProfile(b.in, b.host.Rootless, b.conf.AppArmor)
	return nil
}

// AppArmorProfile is the profile of a container on a host that confines with
// AppArmor, "" for none: the one asked for or byDefault, which only root can load.
func AppArmorProfile(s *cove.ContainerSpec, rootless bool, byDefault string) string {
	if s.AppArmor != "" || s.Privileged || rootless {
		return s.AppArmor
	}
	return byDefault
}
