"""For people: pages rendered here, no script in them, readable without colour or mouse."""
