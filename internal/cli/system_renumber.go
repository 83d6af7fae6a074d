package cli

import "github.com/spf13/cobra"

func systemRenumberCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "renumber",
		Long: "Make the locks of containers, volumes and networks anew, as containers.conf now wants them.\n" +
			"  To be called after num_locks or lock_type was changed, while no other command is at work; containers may run.",
		Args: takesNone,
		RunE: func(*cobra.Command, []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return eng.Renumber()
		},
	}
}
