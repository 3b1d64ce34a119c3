package storagetest

func adminRules() []Rule { return nil }
func purgeRules() []Rule { return nil }
func listRules() []Rule  { return nil }
func lifeRules() []Rule  { return nil }
