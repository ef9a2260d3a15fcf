"""What a site sets: files, environment and options read into one ``Config``.

The door is ``resolve.load_config``.
"""
