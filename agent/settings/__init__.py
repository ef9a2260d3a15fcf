"""What a site sets: files, environment and options read into one ``Config``.

The door is ``config.load_config``.
"""
