"""Training the models that search uses, on data of the collection itself."""
