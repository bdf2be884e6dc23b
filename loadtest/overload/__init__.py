"""More than the service can do: who is shed first, and how fast are those who are let in?"""
